import json
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from videoldm.core.tasks import windows as w

GOLDEN = Path(__file__).parents[1] / "golden" / "animatediff_context_a"


@st.composite
def clips(draw):
    window = draw(st.integers(1, 20))
    return draw(st.integers(1, 120)), window, draw(st.integers(0, window - 1))


# --------------------------------------------------------------------------------------------------
# Plans.


@given(clips())
def test_sliding_windows_cover_the_clip(clip):
    frames, window, overlap = clip
    plan = w.sliding_windows(*clip)
    assert set().union(*plan) == set(range(frames))
    assert {len(p) for p in plan} == {min(window, frames)}
    assert plan[0][0] == 0 and plan[-1][-1] == frames - 1
    for a, b in zip(plan, plan[1:], strict=False):
        assert len(set(a) & set(b)) >= overlap and b[0] > a[0]


@given(clips(), st.integers(1, 4), st.integers(0, 60), st.sampled_from(["uniform", "loop", "open"]))
def test_uniform_windows_cover_the_clip(clip, octaves, step, kind):
    frames, window, overlap = clip
    if kind == "uniform":
        plan = w.uniform_windows(*clip, octaves=octaves, step=step)
        assert all(a < b for p in plan for a, b in zip(p, p[1:], strict=False))
    else:
        plan = w.looped_windows(*clip, octaves=octaves, step=step, closed=kind == "loop")
    assert set().union(*plan) == set(range(frames))


@given(st.integers(1, 100), st.integers(1, 20))
def test_disjoint_windows_partition_the_clip(frames, window):
    plan = w.disjoint_windows(frames, window)
    assert [f for p in plan for f in p] == list(range(frames))


PLANS = {
    "static": lambda size, stride, step: w.sliding_windows(*size),
    "batched": lambda size, stride, step: w.disjoint_windows(*size[:2]),
    "uniform": lambda size, stride, step: w.uniform_windows(*size, octaves=stride, step=step),
    "looped": lambda size, stride, step: w.looped_windows(*size, octaves=stride, step=step),
    "open loop": lambda size, stride, step: w.looped_windows(
        *size, octaves=stride, step=step, closed=False
    ),
}


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(PLANS)), st.sampled_from(sorted(w.FUSE_WEIGHTS)),
    st.integers(1, 200), st.integers(1, 24), st.integers(0, 15), st.integers(1, 4),
    st.integers(0, 30),
)  # fmt: skip
def test_every_plan_gives_every_frame_weight_or_is_refused(
    schedule, fuse, frames, window, overlap, stride, step
):
    if overlap >= window and schedule != "batched":
        with pytest.raises(ValueError, match=f"overlap {overlap} .* window {window}"):
            PLANS[schedule]((frames, window, overlap), stride, step)
        return
    plan = PLANS[schedule]((frames, window, overlap), stride, step)
    weights = w.fuse_weights(fuse, plan, frames, min(overlap, window - 1))
    assert all(0 <= frame < frames for one in plan for frame in one)
    assert all(len(one) == len(weight) for one, weight in zip(plan, weights, strict=True))
    assert all(bool((weight >= 0).all()) for weight in weights)
    assert w.total_weights(plan, weights, frames).min() > 0.01


def test_a_frame_that_only_the_end_of_a_ramp_covers_has_the_whole_weight_of_its_answer():
    plan = [(0, 1, 2), (3, 4, 5)]
    weights = w.fuse_weights("overlap-linear", plan, 6, 2)
    assert [one.tolist() for one in weights] == [[1, 1, 1], [1, 1, 1]]
    shared = w.fuse_weights("overlap-linear", [(0, 1, 2, 3), (3, 4, 5, 6)], 7, 2)
    assert [one.tolist() for one in shared] == [[1, 1, 1, 0.5], [0.5, 1, 1, 1]]


def plan_of(case):
    size = case["num_frames"], case["context_length"], case["context_overlap"]
    octaves, step = case["context_stride"], case["step"]
    return {
        "standard_static": lambda: w.sliding_windows(*size),
        "batched": lambda: w.disjoint_windows(*size[:2]),
        "standard_uniform": lambda: w.uniform_windows(*size, octaves=octaves, step=step),
        "looped_uniform": lambda: w.looped_windows(
            *size, octaves=octaves, step=step, closed=case["closed_loop"]
        ),
    }[case["schedule"]]()


def test_plans_are_those_of_animatediff_evolved():
    """Except where the original's windows leave the video or leave frames out."""
    cases = json.loads((GOLDEN / "context_windows.json").read_text())["windows"]
    sound = [c for c in cases if not c["out_of_range_indices"] and not c["uncovered_frames"]]
    assert len(sound) == 116
    for case in sound:
        assert [list(p) for p in plan_of(case)] == case["windows"], case
    for case in cases:
        assert set().union(*plan_of(case)) == set(range(case["num_frames"]))


@pytest.mark.parametrize(
    "plan", [w.sliding_windows, w.looped_windows, w.uniform_windows], ids=lambda f: f.__name__
)
def test_an_overlap_as_large_as_the_window_is_an_error(plan):
    for frames in (4, 32):
        with pytest.raises(ValueError, match="overlap 8 must be smaller than window 8"):
            plan(frames, 8, 8)


def test_a_hole_in_a_plan_is_an_error():
    with pytest.raises(ValueError, match=r"0\.\.5.*\[3\]"):
        w.covering([(0, 1, 2), (4, 5)], 6)


# --------------------------------------------------------------------------------------------------
# Fusing.


def test_fused_answers_are_those_of_animatediff_evolved():
    tensors = load_file(GOLDEN / "fuse.safetensors")
    for case in json.loads((GOLDEN / "fuse_cases.json").read_text())["cases"]:
        plan = [tuple(p) for p in case["windows"]]
        answers = [tensors[f"case{case['case']}/window{k}"][None] for k in range(len(plan))]
        for name in case["fused"]:
            wanted = tensors[f"case{case['case']}/fused_{name}"][None]
            weights = w.fuse_weights(name, plan, case["num_frames"], case["context_overlap"])
            fused = w.fuse(iter(answers), plan, weights, like=wanted)
            torch.testing.assert_close(fused, wanted, rtol=1e-5, atol=1e-6)


def test_weights_are_those_of_animatediff_evolved():
    wanted = json.loads((GOLDEN / "fuse_weights.json").read_text())
    for length, values in wanted["pyramid"].items():
        assert w.pyramid_weights(tuple(range(int(length))), 99, 0).tolist() == values
    for case in wanted["overlap_linear"]:
        for one in case["per_window"]:
            got = w.overlap_weights(
                tuple(one["window"]), case["num_frames"], case["context_overlap"]
            )
            torch.testing.assert_close(got, torch.tensor(one["weights"]), rtol=1e-6, atol=1e-6)


@given(clips(), st.sampled_from(sorted(w.FUSE_WEIGHTS)))
def test_windows_of_a_framewise_denoiser_change_nothing(clip, name):
    frames, _, overlap = clip
    plan = w.sliding_windows(*clip)
    weights = w.fuse_weights(name, plan, frames, overlap)
    denoise = w.windowed(lambda window: lambda x, sigma: x * sigma, plan, weights)
    x = torch.randn(1, frames, 1, 2, 2)
    torch.testing.assert_close(denoise(x, torch.tensor(2.0)), 2 * x)


@given(st.randoms(use_true_random=False))
def test_the_order_of_windows_does_not_matter(random):
    plan = w.sliding_windows(30, 8, 5)
    weights = w.fuse_weights("pyramid", plan, 30, 5)
    by_window = lambda window: lambda x, sigma: x * 0.1 + window[0] / 7  # noqa: E731
    x = torch.randn(2, 30, 3, 2, 2)
    wanted = w.windowed(by_window, plan, weights)(x, torch.tensor(1.0))
    order = random.sample(range(len(plan)), len(plan))
    shuffled = w.windowed(by_window, [plan[i] for i in order], [weights[i] for i in order])
    assert torch.equal(shuffled(x, torch.tensor(1.0)), wanted)


def test_a_level_per_frame_reaches_its_window():
    plan = w.sliding_windows(10, 4, 2)
    weights = w.fuse_weights("flat", plan, 10, 2)
    per_frame = lambda x, sigma: x * sigma[:, :, None, None, None]  # noqa: E731
    x, sigma = torch.randn(1, 10, 1, 1, 1), torch.rand(1, 10)
    got = w.windowed(lambda _: per_frame, plan, weights)(x, sigma)
    torch.testing.assert_close(got, per_frame(x, sigma))


def test_a_video_of_another_length_names_both():
    plan = w.sliding_windows(10, 4, 2)
    denoise = w.windowed(lambda _: lambda x, s: x, plan, w.fuse_weights("flat", plan, 10, 2))
    with pytest.raises(ValueError, match="10 frames.*12"):
        denoise(torch.zeros(1, 12, 1, 1, 1), torch.tensor(1.0))


def test_an_unknown_fuse_method_is_named():
    with pytest.raises(ValueError, match="'triangle'.*flat"):
        w.fuse_weights("triangle", [(0,)], 1, 0)


# --------------------------------------------------------------------------------------------------
# Long videos.


@given(st.integers(1, 200), st.integers(2, 20), st.data())
def test_prediction_chunks_make_every_frame_once(frames, window, data):
    context = data.draw(st.integers(0, window - 1))
    chunks = w.prediction_chunks(frames, window, context)
    made = [f for c in chunks for f in c.new]
    assert made == list(range(len(made))) and frames <= len(made) < frames + window
    for before, chunk in zip(chunks, chunks[1:], strict=False):
        assert chunk.stop - chunk.start == window
        assert len(chunk.given) == context and chunk.given.stop == before.stop


def test_windows_that_do_not_fit_are_errors():
    with pytest.raises(ValueError, match="context 8 must be smaller than window 8"):
        w.prediction_chunks(32, 8, 8)


# --------------------------------------------------------------------------------------------------
# Tiles.


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 16), st.integers(0, 8))
def test_tiles_of_a_pointwise_function_change_nothing(height, width, tile, overlap):
    assume(overlap < tile)
    x = torch.randn(1, 2, 3, height, width)
    torch.testing.assert_close(w.tiled(lambda x: 2 * x, x, tile, overlap), 2 * x)


def test_tiles_scale_with_their_output():
    x = torch.randn(2, 3, 10, 13)
    enlarge = torch.nn.Upsample(scale_factor=4)
    torch.testing.assert_close(w.tiled(enlarge, x, 6, 2), enlarge(x))


def test_a_seam_is_blended_and_an_edge_is_not():
    weights = w.tile_weights(w.Tile(0, 4, 4, 8), 8, 16, 3)
    torch.testing.assert_close(weights[0, :4], torch.tensor([0.25, 0.5, 0.75, 1.0]))
    torch.testing.assert_close(weights[:, 4], torch.tensor([1.0, 0.75, 0.5, 0.25]))
    corner = w.tile_weights(w.Tile(0, 0, 8, 16), 8, 16, 3)
    assert torch.equal(corner, torch.ones(8, 16))
