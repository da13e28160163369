from dataclasses import replace

import pytest
import torch
from hypothesis import given as given_by
from hypothesis import settings
from hypothesis import strategies as st
from model_toys import (
    SCHEDULE,
    Denoisers,
    fill,
    normal,
    peak_tensors,
    toy_layers,
    toy_model,
    toy_sampling,
    whole,
)
from videoldm.core.networks.context_frames import given_frames
from videoldm.core.tasks.long_video import (
    Between,
    ContextUse,
    Continuation,
    Hierarchy,
    Perturbation,
    Segment,
    SlidingWindows,
    hierarchical,
    key_frames,
    prediction,
    single_segment,
    sliding,
)
from videoldm.core.tasks.segment import conditions_of
from videoldm.core.tasks.sparse_first import SparseFirst, sparse_first

SIZE = (2, 4, 3, 5)
SAMPLING = toy_sampling()
FEW_KEYS = Continuation(window=4, context=1)
HIERARCHY = Hierarchy(keys=FEW_KEYS)


def sparse_of(frames, **more):
    how = SparseFirst(count=2, denoiser_for=Denoisers(), sampling=SAMPLING)
    if frames < 2:
        return single_segment(Denoisers(), SIZE, SAMPLING, frames, **more)
    return sparse_first(Denoisers(), SIZE, toy_sampling(4), frames, how, **more)


STRATEGIES = {
    "single clip": lambda frames, **more: single_segment(
        Denoisers(), SIZE, SAMPLING, frames, **more
    ),
    "sparse first": sparse_of,
    "sliding": lambda frames, **more: sliding(Denoisers(), SIZE, SAMPLING, frames, **more),
    "prediction": lambda frames, **more: prediction(
        Denoisers(), SIZE, SAMPLING, frames, settings=Continuation(window=7, context=2), **more
    ),
    "hierarchical": lambda frames, **more: hierarchical(
        Denoisers(), SIZE, SAMPLING, frames, settings=HIERARCHY, **more
    ),
}


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("frames", [1, 2, 16, 17, 33, 61])
def test_exactly_the_frames_that_were_asked_for(strategy, frames):
    video = whole(STRATEGIES[strategy](frames))
    assert video.shape == (2, frames, 4, 3, 5)
    assert torch.isfinite(video).all()
    assert video.std(1).min() > 1e-4 if frames > 1 else True


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_run_continues_bit_for_bit_after_every_chunk(strategy):
    chunks = list(STRATEGIES[strategy](61))
    for k in range(1, len(chunks) + 1):
        rest = list(STRATEGIES[strategy](61, done=whole(chunks[:k])))
        assert len(rest) == len(chunks) - k
        assert all(torch.equal(a, b) for a, b in zip(rest, chunks[k:], strict=True))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_seed_decides_the_video_and_each_of_the_batch_has_its_own(strategy):
    video = whole(STRATEGIES[strategy](20))
    assert torch.equal(whole(STRATEGIES[strategy](20)), video)
    assert not torch.allclose(video[0], video[1])


@pytest.mark.parametrize(
    "strategy, frames, more", [("prediction", 33, 61), ("hierarchical", 65, 129)]
)
def test_a_longer_video_begins_like_a_shorter_one(strategy, frames, more):
    longer = whole(STRATEGIES[strategy](more))
    assert torch.equal(longer[:, :frames], whole(STRATEGIES[strategy](frames)))


# ------------------------------------------------------------------------------------- prediction


def test_each_segment_is_given_the_last_frames_before_it():
    denoisers = Denoisers()
    how = Continuation(window=7, context=2, rate=1)
    chunks = list(prediction(denoisers, SIZE, SAMPLING, 20, settings=how))
    assert [c.shape[1] for c in chunks] == [7, 5, 5, 3]
    assert denoisers.frames == [range(0, 7), range(5, 12), range(10, 17), range(15, 22)]
    assert denoisers.conditions[0].context is None
    video = whole(chunks)
    for condition in denoisers.conditions[1:]:
        assert condition.rate == 1
        assert condition.context.mask.tolist() == [[1, 1, 0, 0, 0, 0, 0]] * 2
        start = condition.frames[0]
        assert torch.equal(condition.context.latents[:, :2], video[:, start : start + 2])


@pytest.mark.parametrize("given", [1, 2, 3, 9])
def test_a_video_begins_with_its_given_frames(given):
    start = normal(2, given, 4, 3, 5)
    how = Continuation(window=7, context=2, given=start)
    denoisers = Denoisers()
    chunks = list(prediction(denoisers, SIZE, SAMPLING, 23, settings=how))
    video = whole(chunks)
    assert video.shape[1] == 23 and torch.equal(video[:, :given], start)
    told = min(given, 2)
    first = denoisers.conditions[0]
    assert first.frames == range(given - told, given - told + 7)
    assert torch.equal(first.context.latents[:, :told], start[:, given - told :])
    for k in range(1, len(chunks)):
        done = whole(chunks[:k])
        rest = prediction(Denoisers(), SIZE, SAMPLING, 23, settings=how, done=done)
        assert torch.equal(whole([done, *rest]), video)


@settings(max_examples=40)
@given_by(st.integers(1, 60), st.integers(2, 12), st.integers(1, 11))
def test_prediction_covers_every_length(frames, window, context):
    how = Continuation(window=window, context=min(context, window - 1))
    sampling = replace(SAMPLING, sigmas=SAMPLING.sigmas[-2:])
    chunks = list(prediction(Denoisers(), (1, 1, 1, 1), sampling, frames, settings=how))
    assert sum(c.shape[1] for c in chunks) == frames


def test_a_real_model_predicts_with_context():
    model = toy_model()
    layers = fill(toy_layers(model.network.image_unet, context_channels=4), scale=0.05)
    model, text = model.with_layers(layers), normal(1, 3, 16)
    use = ContextUse(scale=1.5, perturbation=Perturbation(level=50, schedule=SCHEDULE))
    how = Continuation(window=4, context=2, use=use)
    video = whole(
        prediction(
            lambda c: model.denoiser(conditions_of(c, {}, text)),
            (1, 4, 4, 4),
            toy_sampling(2),
            8,
            settings=how,
        )
    )
    assert video.shape == (1, 8, 4, 4, 4) and torch.isfinite(video).all()


# ----------------------------------------------------------------------------------- hierarchical


def test_key_frames_are_predicted_far_apart_and_kept():
    denoisers = Denoisers()
    video = whole(hierarchical(denoisers, SIZE, SAMPLING, 61, settings=HIERARCHY))
    assert key_frames(61) == 5
    keys = whole(prediction(Denoisers(), SIZE, SAMPLING, 5, settings=replace(FEW_KEYS, spacing=16)))
    assert torch.equal(video[:, ::16], keys[:, :4])
    levels = [(c.level, c.rate, c.frames[1] - c.frames[0]) for c in denoisers.conditions]
    assert {("keys", None, 16), ("interpolation 1", 0, 4), ("interpolation 2", 1, 1)} == set(levels)


def test_frames_are_interpolated_as_soon_as_their_key_frames_exist():
    denoisers = Denoisers()
    stream = hierarchical(denoisers, SIZE, SAMPLING, 961, settings=HIERARCHY)
    next(stream)
    made = [c.level for c in denoisers.conditions]
    assert made.count("keys") <= 2 and made.count("interpolation 1") == 1


def test_the_interpolation_model_may_be_another_one():
    keys, between = Denoisers(), Denoisers()
    how = Between(denoiser_for=between, sampling=toy_sampling(2), passes=1, window_keys=3)
    video = whole(
        hierarchical(keys, SIZE, SAMPLING, 30, settings=Hierarchy(keys=FEW_KEYS, between=how))
    )
    assert video.shape[1] == 30
    assert {c.level for c in keys.conditions} == {"keys"}
    assert {c.level for c in between.conditions} == {"interpolation 1"}
    assert {len(c.frames) for c in between.conditions} <= {9, 5}


def test_an_image_begins_a_hierarchical_video():
    image = normal(2, 1, 4, 3, 5)
    how = Hierarchy(keys=replace(FEW_KEYS, given=image))
    chunks = list(hierarchical(Denoisers(), SIZE, SAMPLING, 50, settings=how))
    video = whole(chunks)
    assert torch.equal(video[:, :1], image) and video.shape[1] == 50
    again = hierarchical(Denoisers(), SIZE, SAMPLING, 50, settings=how, done=chunks[0])
    assert torch.equal(whole([chunks[0], *again]), video)


@pytest.mark.parametrize("strategy", ["prediction", "hierarchical"])
def test_memory_does_not_grow_with_the_length(strategy):
    task = {
        "prediction": lambda frames: prediction(forgetful, SIZE, SAMPLING, frames),
        "hierarchical": lambda frames: hierarchical(
            forgetful, SIZE, SAMPLING, frames, settings=HIERARCHY
        ),
    }[strategy]

    def forgetful(condition):
        return Denoisers()(condition)

    def peak(frames):
        return peak_tensors(task(frames))

    peak(100)
    assert peak(640) <= peak(160) + 3


# ------------------------------------------------------------------- progress, interruption, errors


def test_progress_counts_clips_and_steps():
    reports = []
    list(hierarchical(Denoisers(), SIZE, SAMPLING, 61, settings=HIERARCHY, callback=reports.append))
    keys = [r for r in reports if r.stage == "keys"]
    assert [(r.chunk, r.chunks, r.step.index) for r in keys] == [
        (0, 2, 0), (0, 2, 1), (0, 2, 2), (1, 2, 0), (1, 2, 1), (1, 2, 2),
    ]  # fmt: skip
    for stage, count in (("interpolation 1", 1), ("interpolation 2", 4)):
        ours = [r for r in reports if r.stage == stage]
        assert {r.chunks for r in ours} == {count}
        assert {r.chunk for r in ours} == set(range(count))


@pytest.mark.parametrize("strategy", ["prediction", "hierarchical"])
def test_a_run_that_is_stopped_between_steps_resumes(strategy):
    expected = whole(STRATEGIES[strategy](61))
    steps = []

    def stop(progress):
        steps.append(progress)
        if len(steps) == 17:
            raise KeyboardInterrupt

    made = []
    with pytest.raises(KeyboardInterrupt):
        for chunk in STRATEGIES[strategy](61, callback=stop):
            made.append(chunk)
    assert 0 < whole(made).shape[1] < 61
    rest = STRATEGIES[strategy](61, done=whole(made))
    assert torch.equal(whole([*made, *rest]), expected)


ERRORS = {
    "context 3 must be .* smaller than window 3": lambda: Continuation(window=3, context=3),
    "context 0 must be at least 1": lambda: Continuation(context=0),
    "overlap 8 must be smaller than window 8": lambda: SlidingWindows(window=8, overlap=8),
    "passes 0 must be at least 1": lambda: Between(passes=0),
    "at least 1 frame, got 0": lambda: STRATEGIES["prediction"](0),
    "62 finished frames are more than the 61": lambda: STRATEGIES["prediction"](
        61, done=normal(2, 62, 4, 3, 5)
    ),
    "8 finished frames cannot be continued: segments end after 7, 12, 17": lambda: STRATEGIES[
        "prediction"
    ](61, done=normal(2, 8, 4, 3, 5)),
    "20 frames cannot begin with 20 given frames": lambda: prediction(
        Denoisers(), SIZE, SAMPLING, 20, settings=Continuation(given=normal(2, 20, 4, 3, 5))
    ),
    r"\[2, 1, 4, 3, 4\] do not fit": lambda: hierarchical(
        Denoisers(),
        SIZE,
        SAMPLING,
        20,
        settings=Hierarchy(keys=replace(FEW_KEYS, given=normal(2, 1, 4, 3, 4))),
    ),
    "given frames are 3, but the segment has 5": lambda: STRATEGIES["single clip"](
        5, settings=Segment(context=given_frames(normal(2, 1, 4, 3, 5), [0], 3))
    ),
    "at least 1 frame, got -1": lambda: SlidingWindows(chunk=-1),
    r"positive numbers, got \(1, 0, 2, 2\)": lambda: prediction(
        Denoisers(), (1, 0, 2, 2), SAMPLING, 4
    ),
    r"at least 2 sigmas .* \[1\]": lambda: prediction(
        Denoisers(), SIZE, replace(SAMPLING, sigmas=torch.ones(1)), 4
    ),
}


@pytest.mark.parametrize("message", ERRORS)
def test_bad_arguments_are_refused_before_anything_is_sampled(message):
    with pytest.raises(ValueError, match=message):
        ERRORS[message]()
