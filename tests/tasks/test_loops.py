"""Looped windows: the end of a video leads to its beginning."""

from dataclasses import replace

import pytest
import torch
from model_toys import toy_sampling, whole
from videoldm.core.diffusion.samplers import sample_euler
from videoldm.core.tasks.sliding import SlidingWindows, sliding

SIZE = (1, 4, 6, 6)
SAMPLING = replace(toy_sampling(8), sampler=sample_euler)


def smooth(condition):
    """A model in which each frame is like its neighbours in the window."""

    def denoise(x, sigma):
        frames = x / (1 + sigma)
        padded = torch.cat([frames[:, :1], frames, frames[:, -1:]], dim=1)
        return (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4

    return denoise


def seam(schedule: str, frames: int) -> float:
    """RMS difference of the first frame from the last, relative to that of neighbours."""
    windows = SlidingWindows(window=8, overlap=4, schedule=schedule, free_noise=False)
    video = whole(sliding(smooth, SIZE, SAMPLING, frames, windows=windows))
    between = video.diff(dim=1).square().mean().sqrt()
    return float((video[:, 0] - video[:, -1]).square().mean().sqrt() / between)


@pytest.mark.parametrize("frames", [8, 24, 31])
def test_the_seam_of_a_loop_is_like_any_other_place(frames):
    assert seam("looped", frames) < 1.25
    assert seam("static", frames) > 1.6
