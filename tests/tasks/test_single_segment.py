"""One segment: its noise, a start, given frames and context guidance."""

from dataclasses import replace

import pytest
import torch
from model_toys import SCHEDULE, Denoisers, normal, toy_sampling, whole
from videoldm.core.diffusion.denoiser import to_ve
from videoldm.core.diffusion.samplers import sample_euler
from videoldm.core.networks.context_frames import given_frames
from videoldm.core.tasks.long_video import ContextUse, Perturbation, Segment, single_segment
from videoldm.core.tasks.segment import SegmentCondition, sample_segment

SIZE = (2, 4, 3, 5)
SAMPLING = toy_sampling()


def test_a_clip_is_the_sampler_on_the_seeds_noise():
    denoiser = Denoisers()(SegmentCondition(frames=range(5)))
    noise = SAMPLING.noise(2, range(5))
    x = to_ve(noise.initial(torch.empty(2, 5, 4, 3, 5)), SAMPLING.sigmas[0])
    expected = SAMPLING.sampler(denoiser, x, SAMPLING.sigmas, noise=noise)
    assert torch.equal(whole(single_segment(Denoisers(), SIZE, SAMPLING, 5)), expected)


def test_video_to_video_at_a_low_noise_level_stays_near_its_input():
    sampling = replace(SAMPLING, sampler=sample_euler, sigmas=torch.tensor([0.01, 0.0]))
    start = normal(2, 5, 4, 3, 5)
    video = whole(
        single_segment(lambda c: lambda x, s: x, SIZE, sampling, 5, settings=Segment(x0=start))
    )
    noise = sampling.noise(2, range(5)).initial(torch.empty(2, 5, 4, 3, 5))
    torch.testing.assert_close(video, start + 0.01 * noise, atol=1e-5, rtol=0)


def test_given_frames_come_back_as_they_were_given_even_when_the_model_saw_them_perturbed():
    known = normal(2, 2, 4, 3, 5, seed=2)
    context = given_frames(known, [0, 3], 6)
    denoisers = Denoisers()
    use = ContextUse(perturbation=Perturbation(level=100, schedule=SCHEDULE))
    video = whole(
        single_segment(denoisers, SIZE, SAMPLING, 6, settings=Segment(context=context, use=use))
    )
    assert torch.equal(video[:, [0, 3]], known)
    (condition,) = denoisers.conditions
    told = condition.context
    assert told.noise_level.tolist() == [100, 100]
    assert not torch.equal(told.latents[:, 0], known[:, 0])
    assert (told.latents[:, [1, 2, 4, 5]] == 0).all()
    remade = replace(use, restore=False)
    video = whole(
        single_segment(
            Denoisers(), SIZE, SAMPLING, 6, settings=Segment(context=context, use=remade)
        )
    )
    assert not torch.equal(video[:, [0, 3]], known)


def test_a_frame_is_perturbed_alike_in_two_clips():
    use = ContextUse(perturbation=Perturbation(level=300, schedule=SCHEDULE))
    known = normal(2, 1, 4, 3, 5)
    denoisers = Denoisers()
    for frames, at in ((range(0, 17, 4), 4), (range(16, 33, 4), 0)):
        condition = SegmentCondition(frames=frames, context=given_frames(known, [at], 5))
        sample_segment(denoisers, condition, SIZE, SAMPLING, use)
    first, second = (c.context.latents for c in denoisers.conditions)
    assert torch.equal(first[:, 4], second[:, 0])


def test_context_guidance_is_f_plus_s_times_the_difference():
    def told(condition):
        given = condition.context is not None and bool(condition.context.mask.any())
        return lambda x, sigma: torch.full_like(x, 3.0 if given else 1.0)

    context = given_frames(normal(2, 1, 4, 3, 5), [0], 3)
    for scale, value in ((1.0, 3.0), (2.0, 5.0), (torch.tensor([1.0, 2.0, 1.5]), None)):
        use = ContextUse(scale=scale)
        video = whole(
            single_segment(told, SIZE, SAMPLING, 3, settings=Segment(context=context, use=use))
        )
        expected = [value, value] if value else [5.0, 4.0]
        torch.testing.assert_close(video[0, 1:, 0, 0, 0], torch.tensor(expected))


def test_keep_holds_given_frames_in_the_samplers_own_x():
    seen = []

    def spy(condition):
        def denoise(x, sigma):
            seen.append((x[:, 0].clone(), sigma))
            return torch.zeros_like(x)

        return denoise

    known = normal(2, 1, 4, 3, 5)
    context = given_frames(known, [0], 3)
    use = ContextUse(keep=True)
    whole(single_segment(spy, SIZE, SAMPLING, 3, settings=Segment(context=context, use=use)))
    noise = SAMPLING.noise(2, range(3)).initial(torch.empty(2, 3, 4, 3, 5))
    assert len(seen) >= len(SAMPLING.sigmas) - 1
    for x, sigma in seen:
        torch.testing.assert_close(x, known[:, 0] + sigma * noise[:, 0])


def test_a_model_that_answers_nonsense_is_stopped_with_the_frame():
    def nonsense(condition):
        def denoise(x, sigma):
            answer = x.clone()
            answer[0, 4] = float("nan")
            return answer

        return denoise

    with pytest.raises(ValueError, match="not a number, the first of them in frame 4"):
        list(single_segment(nonsense, SIZE, SAMPLING, 6))
