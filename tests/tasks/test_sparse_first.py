"""A few frames of a segment first, then all frames between them."""

from dataclasses import replace

import pytest
import torch
from model_toys import Denoisers, fill, normal, toy_layers, toy_model, toy_sampling, toy_unet, whole
from videoldm.core.diffusion.samplers import SAMPLERS
from videoldm.core.families.embedded.loading import noise_schedule
from videoldm.core.networks.conditions import Conditions
from videoldm.core.tasks.interpolation import blended
from videoldm.core.tasks.long_video import Continuation, Hierarchy, hierarchical, prediction
from videoldm.core.tasks.sparse_first import (
    TOGETHER,
    SparseFirst,
    last_step,
    sparse_first,
    spread_evenly,
)

SIZE = (2, 4, 3, 5)
FIRST, FILLING = toy_sampling(steps=5), toy_sampling()
EMBEDDED_SCHEDULE = noise_schedule()


def filled_by(denoisers: Denoisers, count: int = 3) -> SparseFirst:
    return SparseFirst(count=count, denoiser_for=denoisers, sampling=FILLING)


def sample(denoisers, how: SparseFirst, frames: int = 9, sampling=FIRST, **more):
    return whole(sparse_first(denoisers, SIZE, sampling, frames, how, **more))


def test_sparse_frames_lie_evenly_from_the_first_frame_to_the_last():
    assert spread_evenly(16, 4) == [0, 5, 10, 15]
    assert spread_evenly(9, 3) == [0, 4, 8]
    assert spread_evenly(5, 5) == [0, 1, 2, 3, 4]
    assert spread_evenly(7, 2) == [0, 6]
    for count in (0, 1, 8):
        with pytest.raises(ValueError, match=f"7 frames cannot have {count} sparse frame"):
            spread_evenly(7, count)


def test_sparse_frames_are_sampled_alone_and_then_given_to_the_whole_segment():
    denoisers = Denoisers()
    video = sample(denoisers, filled_by(denoisers))
    first, rest = denoisers.conditions
    assert (first.frames, first.times, first.context) == ([0, 4, 8], [0, 4, 8], None)
    assert (rest.frames, rest.times) == (range(9), None)
    assert rest.context.mask.tolist() == [[1, 0, 0, 0, 1, 0, 0, 0, 1]] * 2
    assert video.shape == (2, 9, 4, 3, 5)
    assert torch.equal(video[:, [0, 4, 8]], rest.context.latents[:, [0, 4, 8]])


def test_from_the_blend_little_noise_leaves_what_lies_between_blended():
    """The denoiser of the filling returns its input; that of the sparse frames does not."""
    keep = lambda condition: lambda x, sigma: x  # noqa: E731
    little = replace(FILLING, sigmas=torch.tensor([1e-4, 0.0]))
    how = SparseFirst(count=3, denoiser_for=keep, sampling=little, from_blend=True)
    video, at = sample(Denoisers(), how, 8), spread_evenly(8, 3)
    assert torch.allclose(video, blended(video[:, at], at), atol=2e-3)


def test_the_filling_starts_from_the_same_noise_and_the_sparse_frames_do_not():
    seen = []

    def watched(condition):
        def denoise(x, sigma):
            seen.append(x)
            return torch.zeros_like(x)

        return denoise

    sample(watched, filled_by(watched))
    apart, between = seen[0], seen[FIRST.sigmas.numel() - 1]
    assert not torch.allclose(apart[:, 1:], apart[:, :-1])
    assert between.shape[1] == 9 and torch.equal(between[:, 1:], between[:, :-1])
    assert not torch.allclose(between[0], between[1])


def test_the_filling_takes_eulers_steps_and_the_sampler_is_that_of_the_sparse_frames():
    made = {
        name: sample(Denoisers(), replace(filled_by(Denoisers()),
                                          sampling=replace(FILLING, sampler=sampler)))
        for name, sampler in SAMPLERS.items()
    }  # fmt: skip
    assert all(torch.equal(video, made["euler"]) for video in made.values())
    other = replace(FIRST, sampler=SAMPLERS["euler_ancestral"])
    video = sample(Denoisers(), filled_by(Denoisers()), sampling=other)
    assert not torch.allclose(video[:, [0, 4, 8]], made["euler"][:, [0, 4, 8]], atol=1e-3)


def test_in_the_end_all_frames_are_denoised_together_and_none_is_given():
    denoisers, reports = Denoisers(), []
    together = last_step(EMBEDDED_SCHEDULE)
    how = replace(filled_by(denoisers), together=together)
    video = sample(denoisers, how, callback=reports.append)
    _, rest, last = denoisers.conditions
    assert (last.frames, last.context) == (range(9), None)
    assert not torch.equal(video[:, [0, 4, 8]], rest.context.latents[:, [0, 4, 8]])
    assert [one.stage for one in reports[-2:]] == ["segment", "together"]
    assert together.tolist() == [
        pytest.approx(float(EMBEDDED_SCHEDULE.sigma(TOGETHER * 999 * torch.ones(())))), 0
    ]  # fmt: skip


def test_both_parts_are_reported_as_stages_of_their_own():
    seen, denoisers = [], Denoisers()
    sample(denoisers, filled_by(denoisers), callback=seen.append)
    expected = [("sparse frames", 5)] * 5 + [("segment", 3)] * 3
    assert [(one.stage, one.step.total) for one in seen] == expected


def test_only_a_first_segment_from_nothing_is_sparse_first():
    guided, between = Denoisers(), Denoisers()
    how = Continuation(window=5, context=2, first=filled_by(between, 2))
    video = whole(prediction(guided, SIZE, FILLING, 11, settings=how))
    assert guided.frames == [[0, 4], range(3, 8), range(6, 11)]
    assert between.frames == [range(5)]
    assert video.shape[1] == 11
    guided = Denoisers()
    whole(prediction(guided, SIZE, FILLING, 8, settings=replace(how, given=normal(2, 2, 4, 3, 5))))
    assert len(between.frames) == 1 and len(guided.frames) == 2


def test_key_frames_of_a_hierarchy_count_as_they_do_in_training():
    """Sparse frames among key frames lie further apart in the video, but not for the layers."""
    guided = Denoisers()
    how = Continuation(window=4, context=1, first=filled_by(Denoisers(), 2))
    whole(hierarchical(guided, SIZE, FILLING, 17, settings=Hierarchy(keys=how)))
    assert (guided.conditions[0].frames, guided.conditions[0].times) == ([0, 48], [0, 3])


def test_an_interrupted_run_goes_on_behind_the_first_segment():
    between = Denoisers()
    how = Continuation(window=5, context=2, first=filled_by(between, 3))
    chunks = list(prediction(Denoisers(), SIZE, FILLING, 11, settings=how))
    rest = list(prediction(Denoisers(), SIZE, FILLING, 11, settings=how, done=chunks[0]))
    assert all(torch.equal(a, b) for a, b in zip(rest, chunks[1:], strict=True))
    assert len(between.frames) == 1


def test_more_sparse_frames_than_frames_are_refused_before_anything_is_sampled():
    denoisers = Denoisers()
    with pytest.raises(ValueError, match="4 frames cannot have 9 sparse frames"):
        sparse_first(denoisers, SIZE, FIRST, 4, filled_by(denoisers, 9))
    with pytest.raises(ValueError, match="4 frames cannot have 9 sparse frames"):
        Continuation(window=4, first=filled_by(denoisers, 9))
    assert denoisers.conditions == []


def test_layers_know_when_a_frame_is():
    unet = toy_unet()
    model = toy_model(unet).with_layers(fill(toy_layers(unet, positions="sinusoidal")))
    x, sigma, text = normal(1, 3, 4, 8, 8), torch.tensor(2.0), normal(1, 5, 16)

    def at(times):
        return model.denoiser(Conditions(text=text, times=times))(x, sigma)

    usual = at(None)
    assert torch.equal(at(torch.arange(3)), usual)
    assert not torch.allclose(at(torch.tensor([0, 5, 9])), usual, atol=1e-3)
