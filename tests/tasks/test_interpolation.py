from dataclasses import replace

import pytest
import torch
from hypothesis import given as given_by
from hypothesis import settings
from hypothesis import strategies as st
from model_toys import (
    Denoisers,
    fill,
    normal,
    peak_tensors,
    toy_layers,
    toy_model,
    toy_sampling,
    whole,
)
from videoldm.core.tasks.interpolation import (
    Interpolation,
    blended,
    interpolate,
    interpolated_frames,
    linear_blend,
)
from videoldm.core.tasks.segment import ContextUse, conditions_of

SAMPLING = toy_sampling()
KEYS = normal(2, 16, 4, 3, 5)


def filled(denoiser_for, keys, sampling, *, done=None, callback=None, **how):
    """`interpolate`, with its settings as keyword arguments."""
    settings = Interpolation(**how)
    return interpolate(
        denoiser_for, keys, sampling, settings=settings, done=done, callback=callback
    )


def test_sixteen_key_frames_become_61_and_then_241_frames():
    once = whole(filled(Denoisers(), KEYS, SAMPLING))
    twice = whole(filled(Denoisers(), KEYS, SAMPLING, passes=2))
    assert once.shape[1] == 61 == interpolated_frames(16)
    assert twice.shape[1] == 241 == interpolated_frames(16, 2)
    assert torch.equal(once[:, ::4], KEYS) and torch.equal(twice[:, ::16], KEYS)


def test_a_linear_blend_passes_through_the_key_frames():
    keys = torch.tensor([0.0, 4.0, 0.0])[None, :, None]
    assert linear_blend(keys).flatten().tolist() == [0, 1, 2, 3, 4, 3, 2, 1, 0]


def test_blends_pass_through_frames_at_any_distance():
    frames = torch.tensor([0.0, 6.0, 0.0])[None, :, None]
    assert blended(frames, [2, 4, 8]).flatten().tolist() == [0, 3, 6, 4.5, 3, 1.5, 0]


def test_from_the_blend_little_noise_leaves_the_blend():
    """A denoiser that returns its input gives back what sampling started from."""
    sampling = replace(SAMPLING, sigmas=torch.tensor([1e-4, 0.0]))
    identity = lambda condition: lambda x, sigma: x  # noqa: E731
    made = whole(filled(identity, KEYS, sampling, passes=2, from_blend=True))
    assert torch.allclose(made, linear_blend(KEYS, 16), atol=2e-3)
    assert not torch.allclose(whole(filled(identity, KEYS, sampling)), made[:, ::4], atol=0.1)


def test_segments_of_17_frames_are_given_every_fourth_and_share_one():
    denoisers = Denoisers()
    chunks = list(filled(denoisers, KEYS, SAMPLING))
    assert [c.shape[1] for c in chunks] == [17, 16, 16, 12]
    assert denoisers.frames == [range(0, 17), range(16, 33), range(32, 49), range(48, 61)]
    for condition in denoisers.conditions:
        given = [float(frame % 4 == 0) for frame in condition.frames]
        assert condition.context.mask.tolist() == [given, given]
        keys = KEYS[:, [frame // 4 for frame in condition.frames[::4]]]
        assert torch.equal(condition.context.latents[:, ::4], keys)
        assert condition.rate == 0 and condition.level == "interpolation 1"


def test_the_second_pass_has_the_next_rate_and_the_first_lies_four_times_wider():
    denoisers = Denoisers()
    list(filled(denoisers, KEYS[:, :3], SAMPLING, passes=2, rate=3))
    seen = {(c.level, c.rate, c.frames[1] - c.frames[0]) for c in denoisers.conditions}
    assert seen == {("interpolation 1", 3, 4), ("interpolation 2", 4, 1)}


@settings(max_examples=60)
@given_by(
    st.integers(1, 14), st.integers(2, 6), st.integers(1, 5), st.integers(1, 2), st.booleans()
)
def test_every_frame_comes_once_for_any_number_of_keys(keys, window, overlap, passes, keep):
    overlap = min(overlap, window - 1)
    chunks = list(
        filled(
            Denoisers(),
            KEYS[:, :keys, :, :1, :1],
            SAMPLING,
            window_keys=window,
            overlap_keys=overlap,
            passes=passes,
            keep_keys=keep,
        )
    )
    video = whole(chunks)
    assert video.shape[1] == interpolated_frames(keys, passes)
    if keep:
        assert torch.equal(video[:, :: 4**passes], KEYS[:, :keys, :, :1, :1])


def test_key_frames_may_come_in_chunks_and_are_asked_for_when_needed():
    asked = []
    stream = (asked.append(k) or KEYS[:, k : k + 1] for k in range(16))
    video = filled(Denoisers(), stream, SAMPLING)
    first = next(video)
    assert asked == [0, 1, 2, 3, 4]
    assert torch.equal(whole([first, *video]), whole(filled(Denoisers(), KEYS, SAMPLING)))


@pytest.mark.parametrize("passes, overlap", [(1, 1), (1, 3), (2, 1)])
def test_a_run_continues_bit_for_bit_from_any_frame(passes, overlap):
    def run(**more):
        return filled(
            Denoisers(), KEYS[:, :8], SAMPLING, passes=passes, overlap_keys=overlap, **more
        )

    video = whole(run())
    for frames in range(1, video.shape[1] + 1, 5):
        rest = list(run(done=video[:, :frames]))
        assert torch.equal(whole([video[:, :frames], *rest]), video)


def test_key_frames_can_be_made_again():
    video = whole(filled(Denoisers(), KEYS, SAMPLING, keep_keys=False))
    assert video.shape[1] == 61
    assert not any(torch.equal(video[:, 4 * k], KEYS[:, k]) for k in range(16))


def test_a_single_key_frame_is_the_video():
    denoisers = Denoisers()
    assert torch.equal(whole(filled(denoisers, KEYS[:, :1], SAMPLING)), KEYS[:, :1])
    assert denoisers.conditions == []


def test_a_real_model_interpolates():
    model = toy_model()
    layers = toy_layers(model.network.image_unet, context_channels=4, rates=2)
    model, text = model.with_layers(fill(layers, scale=0.05)), normal(1, 3, 16)
    video = whole(
        filled(
            lambda c: model.denoiser(conditions_of(c, model.network.spec.ids, text)),
            KEYS[:1, :3],
            toy_sampling(2),
            use=ContextUse(scale=2.0),
        )
    )
    assert video.shape == (1, 9, 4, 3, 5) and torch.isfinite(video).all()


def test_progress_counts_clips():
    reports = []
    list(filled(Denoisers(), KEYS, SAMPLING, callback=reports.append))
    assert [(r.chunk, r.chunks) for r in reports[::3]] == [(0, 4), (1, 4), (2, 4), (3, 4)]


def test_memory_does_not_grow_with_the_length():
    def peak(keys):
        stream = (torch.zeros(1, 1, 4, 2, 2) for _ in range(keys))
        return peak_tensors(filled(lambda c: Denoisers()(c), stream, SAMPLING, passes=2))

    peak(20)
    assert peak(60) <= peak(20) + 3


def test_errors_name_both_numbers_before_anything_is_sampled():
    with pytest.raises(ValueError, match="overlap_keys 5 must be .* smaller than window_keys 5"):
        filled(Denoisers(), KEYS, SAMPLING, overlap_keys=5)
    with pytest.raises(ValueError, match="overlap_keys 0 must be at least 1"):
        filled(Denoisers(), KEYS, SAMPLING, overlap_keys=0)
    with pytest.raises(ValueError, match="passes 0 must be at least 1, and factor 4"):
        filled(Denoisers(), KEYS, SAMPLING, passes=0)
    with pytest.raises(ValueError, match=r"\[16, 4, 3, 5\]"):
        filled(Denoisers(), KEYS[0], SAMPLING)
    with pytest.raises(ValueError, match="2 passes can only be continued when key frames are kept"):
        filled(Denoisers(), KEYS, SAMPLING, passes=2, keep_keys=False, done=KEYS)
    with pytest.raises(ValueError, match="0 key frames"):
        list(filled(Denoisers(), iter(()), SAMPLING))
