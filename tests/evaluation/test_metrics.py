"""Video metrics against closed forms, and estimated motion against the worlds' true motion."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from videoldm.core.evaluation.metrics import (
    flicker,
    psnr,
    radial_power,
    spectrum_distance,
    warping_error,
)
from videoldm.core.families.embedded import worlds
from videoldm.core.tasks.optical_flow import estimated_flow


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def smooth_texture(side: int, shift_x: float = 0, shift_y: float = 0) -> torch.Tensor:
    """Smoothed noise [3, side, side], shifted by any distance through its Fourier transform."""
    f = torch.fft.fftfreq(side)
    fx, fy = f[None, :], f[:, None]
    moved = torch.exp(-2j * math.pi * (fx * shift_x + fy * shift_y) - 200 * (fx**2 + fy**2))
    texture = torch.fft.ifft2(torch.fft.fft2(noise(3, side, side)) * moved).real
    return 10 * texture


def constant_flow(dx: float, dy: float, pairs: int, side: int) -> torch.Tensor:
    return torch.tensor([dx, dy]).reshape(1, 2, 1, 1).expand(pairs, 2, side, side)


def test_psnr_of_a_constant_error() -> None:
    x = noise(4, 3, 8, 8)
    assert psnr(x, x + 0.2) == pytest.approx(20 * math.log10(2 / 0.2), abs=1e-4)
    assert psnr(x, x) == pytest.approx(120)


def test_flicker_sees_changes_in_time_only() -> None:
    y = noise(2, 6, 3, 8, 8)
    assert flicker(y, y) == 0
    assert flicker(y + noise(1, 1, 3, 8, 8, seed=1), y) == pytest.approx(0, abs=1e-6)
    alternating = 0.1 * (-1) ** torch.arange(6).reshape(1, 6, 1, 1, 1)
    assert flicker(y + alternating, y) == pytest.approx(0.2, abs=1e-6)


def test_measures_refuse_videos_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"\[4, 3, 8, 8\] and \[5, 3, 8, 8\]"):
        psnr(noise(4, 3, 8, 8), noise(5, 3, 8, 8))
    with pytest.raises(ValueError, match="at least 2 frames, got 1"):
        flicker(noise(1, 3, 8, 8), noise(1, 3, 8, 8))
    with pytest.raises(ValueError, match="flow of shape"):
        warping_error(noise(4, 3, 8, 8), torch.zeros(4, 2, 8, 8))


def test_a_translation_warped_exactly_has_no_error() -> None:
    texture = noise(3, 40, 40)
    frames = torch.stack([torch.roll(texture, (t, 2 * t), dims=(1, 2)) for t in range(5)])
    flow = constant_flow(2, 1, 4, 40)
    wrong = warping_error(frames, torch.zeros_like(flow))
    assert warping_error(frames, flow) < 1e-4 < 0.5 < wrong
    assert warping_error(frames[None], flow[None]) < 1e-4


def test_warping_error_of_known_motion_is_small_where_valid() -> None:
    scene = worlds.shapes_scene(1, objects=[("red", "square", "moves right")], background="striped")
    times = np.arange(4)
    frames = torch.from_numpy(worlds.render(scene, times=times, size=64))
    pairs = [worlds.flow(scene, time=t, next_time=t + 1, size=64) for t in times[:-1]]
    flow = torch.from_numpy(np.stack([flow for flow, _ in pairs]))
    valid = torch.from_numpy(np.stack([valid for _, valid in pairs]))
    known = warping_error(frames, flow, valid)
    assert known < 0.01
    assert known < 0.5 * warping_error(frames, torch.zeros_like(flow))


@pytest.mark.parametrize(("dx", "dy"), [(0.0, 0.0), (0.4, -0.7), (2.5, 1.0), (-4.0, 3.0)])
def test_estimated_motion_of_a_translation(dx: float, dy: float) -> None:
    frames = torch.stack([smooth_texture(64, t * dx, t * dy) for t in range(3)])
    flow = estimated_flow(frames)
    assert flow.shape == (2, 2, 64, 64)
    middle = flow[:, :, 8:-8, 8:-8]
    assert (middle - constant_flow(dx, dy, 2, 48)).abs().mean() < 0.15


@pytest.mark.parametrize("world", ["shapes", "driving"])
def test_estimated_motion_explains_rendered_clips(world: str) -> None:
    """Better than no motion does, in every clip, occlusions included."""
    for seed in range(3):
        scene = worlds.sample_scene(world, seed)
        frames = torch.from_numpy(worlds.render(scene, times=np.arange(4), size=64))
        estimated = warping_error(frames, estimated_flow(frames))
        still = warping_error(frames, torch.zeros(3, 2, 64, 64))
        assert estimated < 0.75 * still, (world, seed, estimated, still)


def test_estimated_motion_of_an_object_is_its_own() -> None:
    wish = [("white", "star", "moves down")]
    scene = worlds.shapes_scene(2, objects=wish, background="gradient")
    frames = torch.from_numpy(worlds.render(scene, times=np.arange(5, 7), size=64))
    exact, valid = worlds.flow(scene, time=5, next_time=6, size=64)
    on_object = torch.from_numpy((np.abs(exact).sum(0) > 0.1) & (valid > 0))
    estimated = estimated_flow(frames)[0][:, on_object]
    assert on_object.sum() > 20
    assert (estimated - torch.from_numpy(exact)[:, on_object]).abs().mean() < 0.4


def test_power_of_white_noise_is_its_variance_in_every_ring() -> None:
    # The lowest ring loses a little power to the mean, which is subtracted.
    grey = 0.3 * noise(40, 1, 64, 64).expand(40, 3, 64, 64)
    power = radial_power(grey).mean(0)
    assert power.shape == (32,)
    assert torch.allclose(power[1:], torch.full((31,), 0.09, dtype=power.dtype), rtol=0.15)


def test_spectrum_distance_sees_blur_and_not_place() -> None:
    sharp = 0.3 * noise(4, 3, 64, 64)
    blurred = F.avg_pool2d(F.pad(sharp, (1, 1, 1, 1), mode="circular"), 3, stride=1)
    moved = torch.roll(sharp, (11, 23), dims=(2, 3))
    assert spectrum_distance(sharp, sharp) == 0
    assert spectrum_distance(blurred, sharp) > 5
    assert spectrum_distance(moved, sharp) < 0.2 * spectrum_distance(blurred, sharp)


def test_spectrum_distance_of_a_scaled_video_is_that_factor_in_decibels() -> None:
    x = noise(2, 3, 32, 32)
    assert spectrum_distance(2 * x, x) == pytest.approx(20 * math.log10(2), abs=0.01)
