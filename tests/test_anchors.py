from dataclasses import replace

import pytest
import torch
from model_toys import Denoisers, fill, normal, toy_layers, toy_model, toy_sampling, toy_unet, whole
from videoldm.core.anchors import TOGETHER, Anchors, last_step, spread_evenly
from videoldm.core.conditions import Conditions
from videoldm.core.context_frames import given_frames
from videoldm.core.families.embedded import noise_schedule
from videoldm.core.interpolation import blended
from videoldm.core.long_video import Continuation, hierarchical, prediction, single_clip
from videoldm.core.sampling import SAMPLERS

SIZE = (2, 4, 3, 5)
SAMPLING = toy_sampling()
EMBEDDED_SCHEDULE = noise_schedule()


def anchored(denoisers: Denoisers, count: int = 3) -> Anchors:
    sampling = toy_sampling(steps=5)
    return Anchors(count=count, sampling=sampling, between=denoisers)


def test_anchors_lie_evenly_from_the_first_frame_to_the_last():
    assert spread_evenly(16, 4) == [0, 5, 10, 15]
    assert spread_evenly(9, 3) == [0, 4, 8]
    assert spread_evenly(5, 5) == [0, 1, 2, 3, 4]
    assert spread_evenly(7, 2) == [0, 6]
    for count in (0, 1, 8):
        with pytest.raises(ValueError, match=f"7 frames cannot have {count} anchors"):
            spread_evenly(7, count)


def test_anchors_are_made_alone_and_then_given_to_the_whole_clip():
    denoisers = Denoisers()
    video = whole(single_clip(denoisers, SIZE, SAMPLING, 9, anchors=anchored(denoisers)))
    first, rest = denoisers.conditions
    assert (first.frames, first.times, first.context) == ([0, 4, 8], [0, 4, 8], None)
    assert (rest.frames, rest.times) == (range(9), None)
    assert rest.context.mask.tolist() == [[1, 0, 0, 0, 1, 0, 0, 0, 1]] * 2
    assert video.shape == (2, 9, 4, 3, 5)
    assert torch.equal(video[:, [0, 4, 8]], rest.context.latents[:, [0, 4, 8]])


def test_from_the_blend_little_noise_leaves_what_lies_between_the_anchors_blended():
    """The denoiser of the frames between returns its input; that of the anchors does not."""
    keep = lambda condition: lambda x, sigma: x  # noqa: E731
    sampling = replace(SAMPLING, sigmas=torch.tensor([1e-4, 0.0]))
    anchors = replace(anchored(Denoisers()), between=keep, from_blend=True)
    video = whole(single_clip(Denoisers(), SIZE, sampling, 8, anchors=anchors))
    at = spread_evenly(8, 3)
    assert torch.allclose(video, blended(video[:, at], at), atol=2e-3)


def test_frames_between_anchors_start_from_the_same_noise_and_the_anchors_do_not():
    seen = []

    def watched(condition):
        def denoise(x, sigma):
            seen.append(x)
            return torch.zeros_like(x)

        return denoise

    anchors = replace(anchored(watched), between=watched)
    whole(single_clip(watched, SIZE, SAMPLING, 9, anchors=anchors))
    apart, between = seen[0], seen[anchors.sampling.sigmas.numel() - 1]
    assert not torch.allclose(apart[:, 1:], apart[:, :-1])
    assert between.shape[1] == 9 and torch.equal(between[:, 1:], between[:, :-1])
    assert not torch.allclose(between[0], between[1])


def test_frames_between_anchors_take_eulers_steps_whatever_the_sampler():
    """The anchors have their own sampler, so that of the frames between changes nothing."""
    anchors = anchored(Denoisers())
    made = {
        name: whole(single_clip(Denoisers(), SIZE, replace(SAMPLING, sampler=sampler), 9,
                                anchors=anchors))
        for name, sampler in SAMPLERS.items()
    }  # fmt: skip
    assert all(torch.equal(video, made["euler"]) for video in made.values())
    other = replace(anchors.sampling, sampler=SAMPLERS["euler_ancestral"])
    video = whole(
        single_clip(Denoisers(), SIZE, SAMPLING, 9, anchors=replace(anchors, sampling=other))
    )
    assert not torch.allclose(video[:, [0, 4, 8]], made["euler"][:, [0, 4, 8]], atol=1e-3)


def test_in_the_end_all_frames_are_denoised_together_and_none_is_given():
    denoisers, reports = Denoisers(), []
    together = last_step(EMBEDDED_SCHEDULE)
    anchors = replace(anchored(denoisers), together=together)
    video = whole(
        single_clip(denoisers, SIZE, SAMPLING, 9, anchors=anchors, callback=reports.append)
    )
    _, rest, last = denoisers.conditions
    assert (last.frames, last.context) == (range(9), None)
    assert not torch.equal(video[:, [0, 4, 8]], rest.context.latents[:, [0, 4, 8]])
    assert [one.stage for one in reports[-2:]] == ["clip", "together"]
    assert together.tolist() == [
        pytest.approx(float(EMBEDDED_SCHEDULE.sigma(TOGETHER * 999 * torch.ones(())))), 0
    ]  # fmt: skip


def test_the_anchors_have_a_sampling_of_their_own():
    seen = []
    denoisers = Denoisers()
    anchors = anchored(denoisers)
    whole(single_clip(denoisers, SIZE, SAMPLING, 9, anchors=anchors, callback=seen.append))
    assert [(one.stage, one.step.total) for one in seen] == [("anchors", 5)] * 5 + [("clip", 3)] * 3


def test_only_a_first_clip_from_nothing_has_anchors():
    guided, between = Denoisers(), Denoisers()
    how = Continuation(window=5, context=2, anchors=anchored(between, 2))
    video = whole(prediction(guided, SIZE, SAMPLING, 11, how=how))
    assert guided.frames == [[0, 4], range(3, 8), range(6, 11)]
    assert between.frames == [range(5)]
    assert video.shape[1] == 11
    guided = Denoisers()
    whole(prediction(guided, SIZE, SAMPLING, 8, how=how, given=normal(2, 2, 4, 3, 5)))
    assert len(between.frames) == 1 and len(guided.frames) == 2


def test_key_frames_of_a_hierarchy_count_as_they_do_in_training():
    """Anchors among key frames lie further apart in the video, but not for the layers."""
    guided = Denoisers()
    how = Continuation(window=4, context=1, anchors=anchored(Denoisers(), 2))
    whole(hierarchical(guided, SIZE, SAMPLING, 17, how=how))
    assert (guided.conditions[0].frames, guided.conditions[0].times) == ([0, 48], [0, 3])


def test_an_interrupted_run_goes_on_behind_the_first_clip():
    between = Denoisers()
    how = Continuation(window=5, context=2, anchors=anchored(between, 3))
    chunks = list(prediction(Denoisers(), SIZE, SAMPLING, 11, how=how))
    rest = list(prediction(Denoisers(), SIZE, SAMPLING, 11, how=how, done=chunks[0]))
    assert all(torch.equal(a, b) for a, b in zip(rest, chunks[1:], strict=True))
    assert len(between.frames) == 1


def test_a_clip_that_is_given_frames_has_no_use_for_anchors():
    context = given_frames(normal(2, 1, 4, 3, 5), [0], 9)
    anchors = anchored(Denoisers())
    with pytest.raises(ValueError, match="no use for anchors"):
        single_clip(Denoisers(), SIZE, SAMPLING, 9, context=context, anchors=anchors)
    with pytest.raises(ValueError, match="4 frames cannot have 9 anchors"):
        Continuation(window=4, anchors=anchored(Denoisers(), 9))


def test_layers_know_when_a_frame_is():
    unet = toy_unet()
    model = toy_model(unet).with_layers(fill(toy_layers(unet, positions="sinusoidal")))
    x, sigma, text = normal(1, 3, 4, 8, 8), torch.tensor(2.0), normal(1, 5, 16)

    def at(times):
        return model.denoiser(Conditions(text=text, times=times))(x, sigma)

    usual = at(None)
    assert torch.equal(at(torch.arange(3)), usual)
    assert not torch.allclose(at(torch.tensor([0, 5, 9])), usual, atol=1e-3)
