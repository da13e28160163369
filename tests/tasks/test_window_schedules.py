"""Context windows of every schedule, at every step."""

import json
from pathlib import Path

import pytest
import torch
from animatediff_toys import TEXT, toy_config, toy_layers, toy_unet_of_one_seed
from hypothesis import given, settings
from hypothesis import strategies as st
from model_toys import Denoisers, normal, toy_sampling
from videoldm.core.networks.conditions import Conditions
from videoldm.core.networks.layers.motion_module import MotionModuleSpec
from videoldm.core.networks.layers.specs import LayerInputs
from videoldm.core.networks.layers.views import Views
from videoldm.core.networks.video_unet import inject
from videoldm.core.tasks.sliding import SlidingWindows, sliding
from videoldm.core.tasks.window_schedules import SCHEDULES, WindowLayout
from videoldm.core.tasks.windows import FUSE_WEIGHTS, total_weights

GOLDEN = Path(__file__).parents[1] / "golden" / "animatediff_context_a"
SIZE = (1, 4, 2, 2)


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(sorted(SCHEDULES)), st.sampled_from(sorted(FUSE_WEIGHTS)), st.integers(1, 200),
    st.integers(1, 24), st.integers(0, 15), st.integers(1, 4), st.integers(0, 40),
)  # fmt: skip
def test_every_step_covers_every_frame_with_weight_or_is_refused(
    schedule, fuse, frames, window, overlap, strides, step
):
    how = dict(schedule=schedule, fuse=fuse, window=window, overlap=overlap, strides=strides)
    if overlap >= window:
        with pytest.raises(ValueError, match=f"overlap {overlap} .* window {window}"):
            WindowLayout(**how)
        return
    layout = WindowLayout(**how)
    plan = layout.windows(frames, step)
    weights = layout.weights(plan, frames)
    assert set().union(*plan) == set(range(frames))
    assert all(len(set(one)) == len(one) <= window for one in plan)
    assert total_weights(plan, weights, frames).min() > 0.01
    if schedule in ("static", "batched", "views"):
        assert plan == layout.windows(frames, 0)


@given(st.integers(2, 64), st.integers(2, 24), st.integers(1, 4))
def test_a_loop_has_no_seam_that_stays(frames, window, strides):
    """Every pair of neighbours on the circle stands side by side in some window of some step."""
    layout = WindowLayout(schedule="looped", window=window, overlap=window // 4, strides=strides)
    together = set()
    for step in range(2 * frames):
        for one in layout.windows(frames, step):
            together |= set(zip(one, one[1:], strict=False))
    assert together >= {(k, (k + 1) % frames) for k in range(frames)}


def test_looped_windows_are_those_of_animatediff_evolved_where_they_see_no_frame_twice():
    cases = json.loads((GOLDEN / "context_windows.json").read_text())["windows"]
    looped = [c for c in cases if c["schedule"] == "looped_uniform" and c["closed_loop"]
              and c["num_frames"] > c["context_length"]]  # fmt: skip
    assert looped
    for case in looped:
        layout = WindowLayout(schedule="looped", window=case["context_length"],
                              overlap=case["context_overlap"],
                              strides=case["context_stride"])  # fmt: skip
        wanted = [tuple(one) for one in case["windows"] if len(set(one)) == len(one)]
        assert layout.windows(case["num_frames"], case["step"]) == wanted


def test_what_is_not_known_is_refused():
    for how, text in (
        ({"schedule": "round"}, "window schedule 'round'.*static"),
        ({"fuse": "max"}, "fuse method 'max'.*flat"), ({"strides": 0}, "1 stride, got 0"),
        ({"window": 4, "overlap": 4}, "overlap 4 must be smaller than window 4"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=text):
            WindowLayout(**how)


# --------------------------------------------------------------------------------------------------
# Sampling.


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("frames", [3, 16, 21])
def test_windows_change_nothing_for_a_model_of_single_frames(schedule, frames):
    sampling = toy_sampling()
    alone = lambda condition: lambda x, sigma: x / (1 + sigma**2)  # noqa: E731
    how = dict(free_noise=False, window=8, overlap=3, strides=2)
    video = torch.cat(
        list(
            sliding(alone, SIZE, sampling, frames, windows=SlidingWindows(schedule=schedule, **how))
        ),
        1,
    )
    plain = torch.cat(list(sliding(alone, SIZE, sampling, frames, windows=SlidingWindows(
        free_noise=False, window=frames, overlap=0))), 1)  # fmt: skip
    torch.testing.assert_close(video, plain, rtol=1e-4, atol=1e-5)


def test_windows_of_a_schedule_that_moves_are_other_ones_at_every_step():
    sampling, denoisers = toy_sampling(4), Denoisers()
    windows = SlidingWindows(schedule="looped", window=8, overlap=2)
    list(sliding(denoisers, SIZE, sampling, 20, windows=windows))
    assert {tuple(one) for one in denoisers.frames} == {
        window for step in range(4) for window in windows.windows(20, step)
    }


def test_a_video_is_changed_in_windows_and_at_a_low_level_stays_near():
    from dataclasses import replace

    sampling = replace(toy_sampling(), sigmas=torch.tensor([0.01, 0.005]))
    start = normal(1, 20, 4, 2, 2)
    windows = SlidingWindows(window=8, overlap=2, x0=start)
    video = torch.cat(list(sliding(lambda c: lambda x, s: x, SIZE, sampling, 20, windows=windows)),
                      1)  # fmt: skip
    assert 0 < (video - start).abs().max() < 0.1
    with pytest.raises(ValueError, match="initial frames are 20, but the segment has 21"):
        sliding(Denoisers(), SIZE, sampling, 21, windows=windows)


# --------------------------------------------------------------------------------------------------
# Views: windows inside of temporal attention.


def views_of(frames: int, window: int, overlap: int = 0, fuse: str = "flat") -> Views:
    return WindowLayout(schedule="views", window=window, overlap=overlap, fuse=fuse).views(frames)


def module(**changes):
    from model_toys import fill

    return fill(MotionModuleSpec(heads=2, norm_groups=4, **changes).build(8)).eval()


def test_one_view_of_all_frames_is_none():
    layer, h = module(), normal(12, 8, 3, 3)
    seen = layer(h, 6, LayerInputs(views=views_of(6, 6)))
    torch.testing.assert_close(seen, layer(h, 6), rtol=1e-5, atol=1e-6)


def test_views_without_overlap_are_videos_of_their_own():
    layer, h = module(), normal(8, 8, 3, 3)
    seen = layer(h, 8, LayerInputs(views=views_of(8, 4)))
    parts = torch.cat([layer(h[:4], 4), layer(h[4:], 4)])
    torch.testing.assert_close(seen, parts, rtol=1e-5, atol=1e-6)


def test_views_are_fused_behind_the_attentions_and_before_the_feed_forward():
    layer, h = module(), normal(6, 8, 2, 2)
    block, at = layer.blocks[0], normal(4, 8, seed=1)
    tokens = normal(6, 4, 8, seed=2)
    views = Views(((0, 1, 2, 3), (2, 3, 4, 5)), ((1.0,) * 4, (3.0,) * 4))
    first, second = block.attend(tokens[:4], at), block.attend(tokens[2:], at)
    fused = torch.cat([first[:2], (first[2:] + 3 * second[:2]) / 4, second[2:]])
    wanted = block.feed_forward(block.norm(fused), plus=fused)
    longer = torch.cat([at, at[:2]])
    torch.testing.assert_close(
        block(tokens, longer, LayerInputs(views=views)), wanted, rtol=1e-5, atol=1e-6
    )
    assert layer(h, 6, LayerInputs(views=views)).shape == h.shape


def test_with_views_a_video_may_be_longer_than_a_module_has_positions():
    layers = toy_layers(toy_config("v1", positions=4))
    network = inject(toy_unet_of_one_seed(), layers)
    x = normal(2, 9, 4, 8, 8)
    with torch.no_grad():
        seen = network(x, torch.tensor(500), Conditions(text=TEXT, views=views_of(9, 4, 2)))
        assert seen.shape == x.shape and torch.isfinite(seen).all()
        with pytest.raises(ValueError, match="at most 4 frames together, but 9"):
            network(x, torch.tensor(500), Conditions(text=TEXT))
        with pytest.raises(ValueError, match="at most 4 frames together, but 5"):
            network(x, torch.tensor(500), Conditions(text=TEXT, views=views_of(9, 5)))
    assert network.spec.views


def test_layers_that_cannot_see_views_say_so():
    from model_toys import toy_layers as other_layers

    unet = toy_unet_of_one_seed()
    network = inject(unet, other_layers(unet))
    with pytest.raises(ValueError, match="was also given views"):
        network.spec.check(Conditions(text=TEXT, views=views_of(4, 4)))
