from dataclasses import replace

import pytest
import torch
from model_toys import (
    SCHEDULE,
    fill,
    normal,
    peak_tensors,
    toy_layers,
    toy_model,
    toy_sampling,
    toy_unet,
    whole,
)
from videoldm.core.diffusion.denoiser import to_ve
from videoldm.core.networks.conditions import NOISE_LEVEL, Conditions
from videoldm.core.tasks.upsampling import (
    Prompt,
    Upsampling,
    settings_of,
    upsample,
    upsample_continued,
    upsample_whole,
    upsampler_denoiser_for,
)

SAMPLING = toy_sampling()
LOW = normal(2, 30, 3, 5, 6).tanh()


class Denoisers:
    """A toy upsampler whose frames depend on each other and on the low-resolution ones."""

    def __init__(self):
        self.conditions = []

    def __call__(self, condition):
        self.conditions.append(condition)
        low = condition.concatenated.mean(2, keepdim=True)
        return lambda x, s: ((x + x.mean(1, keepdim=True)) / (1 + s)).tanh() + low


def frame_by_frame(condition):
    low = condition.concatenated.mean(2, keepdim=True)
    return lambda x, s: (x / (1 + s)).tanh() + low


def settings(**changes):
    return Upsampling(**{"schedule": SCHEDULE, "chunk": 8, "overlap": 3} | changes)


def clips(low_res=LOW, denoiser_for=None, how=None, **more):
    how = how or settings()
    return upsample_continued(denoiser_for or Denoisers(), low_res, SAMPLING, how, **more)


@pytest.mark.parametrize("frames", [1, 2, 7, 8, 9, 13, 14, 30])
def test_every_frame_comes_out_once(frames):
    video = whole(clips(LOW[:, :frames]))
    assert video.shape == (2, frames, 4, 5, 6) and torch.isfinite(video).all()


@pytest.mark.parametrize("make", [upsample_continued, lambda *a: [upsample_whole(*a)]])
def test_with_the_same_noise_a_still_video_stays_still(make):
    still = LOW[:, :1].expand(-1, 15, -1, -1, -1)
    lively, quiet = (
        whole(make(frame_by_frame, still, SAMPLING, settings(same_noise=same)))
        for same in (False, True)
    )
    assert torch.allclose(quiet, quiet[:, :1].expand_as(quiet), atol=1e-6)
    assert lively.diff(dim=1).abs().mean() > 0.05


def test_clips_share_frames_and_the_last_one_is_as_long_as_the_others():
    denoisers = Denoisers()
    chunks = list(clips(LOW[:, :15], denoisers))
    assert [c.shape[1] for c in chunks] == [8, 5, 2]
    assert [c.frames for c in denoisers.conditions] == [range(0, 8), range(5, 13), range(7, 15)]


def test_what_is_finished_is_held_at_every_step_so_that_borders_agree():
    seen = []

    def spy(condition):
        inner = Denoisers()(condition)

        def denoise(x, sigma):
            seen.append((condition.frames, x.clone(), sigma))
            return inner(x, sigma)

        return denoise

    video = whole(clips(LOW[:, :13], spy))
    second = [(x, sigma) for frames, x, sigma in seen if frames.start == 5]
    assert len(second) == 3
    noise = SAMPLING.noise(2, range(5, 13)).initial(torch.empty(2, 8, 4, 5, 6))
    for x, sigma in second:
        torch.testing.assert_close(x[:, :3], video[:, 5:8] + sigma * noise[:, :3])


def test_a_model_without_time_does_not_see_the_clips():
    together = whole(clips(LOW, frame_by_frame, settings(chunk=30, overlap=0)))
    for chunk, overlap in ((8, 3), (4, 0), (11, 10)):
        apart = whole(clips(LOW, frame_by_frame, settings(chunk=chunk, overlap=overlap)))
        torch.testing.assert_close(apart, together, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [1, 4, 30])
def test_low_resolution_frames_may_come_in_chunks_of_any_size(size):
    stream = (part for part in LOW.split(size, dim=1))
    assert torch.equal(whole(clips(stream)), whole(clips()))


@pytest.mark.parametrize("frames", [6, 8, 13, 15, 30])
def test_a_run_continues_bit_for_bit_after_every_chunk(frames):
    chunks = list(clips(LOW[:, :frames]))
    for k in range(1, len(chunks) + 1):
        stream = iter(LOW[:, :frames].split(4, dim=1))
        rest = list(clips(stream, done=whole(chunks[:k])))
        assert torch.equal(whole([*chunks[:k], *rest]), whole(chunks))


def test_the_low_resolution_noise_belongs_to_the_frame():
    denoisers = Denoisers()
    list(clips(LOW[:, :13], denoisers, settings(noise_level=100)))
    first, second = denoisers.conditions
    assert torch.equal(first.concatenated[:, 5:], second.concatenated[:, :3])
    a = SCHEDULE.alphas_cumprod[100]
    noise = (first.concatenated - a.sqrt() * LOW[:, :8]) / (1 - a).sqrt()
    assert abs(noise.mean()) < 0.1 and abs(noise.std() - 1) < 0.1
    assert first.noise_level == 100


def test_tiles_of_a_position_by_position_model_are_the_whole():
    expected = whole(clips(LOW[:, :8], frame_by_frame))
    tiled = whole(clips(LOW[:, :8], frame_by_frame, settings(tile=4, tile_overlap=2)))
    torch.testing.assert_close(tiled, expected, atol=1e-5, rtol=0)


def test_a_tile_sees_its_own_part_of_the_low_resolution_frames():
    sizes = set()

    def spy(condition):
        def denoise(x, sigma):
            assert x.shape[-2:] == condition.concatenated.shape[-2:]
            sizes.add(tuple(x.shape[-2:]))
            return x / (1 + sigma)

        return denoise

    list(clips(LOW[:, :8], spy, settings(tile=3, tile_overlap=1)))
    assert sizes == {(3, 3)}


def test_the_whole_at_once_agrees_with_clips_for_a_model_without_time():
    together = upsample_whole(frame_by_frame, LOW, SAMPLING, settings())
    torch.testing.assert_close(together, whole(clips(LOW, frame_by_frame)), atol=1e-5, rtol=0)
    assert upsample_whole(Denoisers(), LOW[:, :1], SAMPLING, settings()).shape[1] == 1


def toy_upsampler():
    unet = toy_unet(in_channels=7, num_class_embeds=50)
    model = toy_model(unet, max_noise_level=40, noise_schedule_for_low_res=SCHEDULE)
    return model.with_layers(fill(toy_layers(unet), scale=0.05))


def test_a_real_upsampler_runs_in_clips_tiles_and_with_guidance():
    model, text = toy_upsampler(), normal(1, 3, 16)
    low = LOW[:1, :7]
    how = replace(settings_of(model), chunk=4, overlap=1, tile=4, tile_overlap=2)
    video = whole(upsample(model, low, Prompt(text), toy_sampling(2), settings=how))
    assert video.shape == (1, 7, 4, 5, 6) and torch.isfinite(video).all()
    guidance = Prompt(text, torch.zeros_like(text), 3.0)
    guided = upsample(model, low, guidance, toy_sampling(2), settings=how)
    assert not torch.allclose(whole(guided), video)


def test_one_clip_is_the_sampler_on_the_models_denoiser():
    model, text, sampling = toy_upsampler(), normal(1, 3, 16), toy_sampling(2)
    low = LOW[:1, :3]
    how = replace(settings_of(model), noise_level=7)
    video = whole(upsample(model, low, Prompt(text), sampling, settings=how))
    source = sampling.noise(1, range(3))
    noise = source.like(low, stream="low resolution")
    noised = SCHEDULE.add_noise(low, noise, torch.tensor([7]))
    given = Conditions(text=text, concatenated=noised, ids={NOISE_LEVEL: torch.tensor([7])})
    denoiser = model.denoiser(given)
    x = to_ve(source.initial(torch.empty(1, 3, 4, 5, 6)), sampling.sigmas[0])
    expected = sampling.sampler(denoiser, x, sampling.sigmas, noise=source)
    torch.testing.assert_close(video, expected)


def test_memory_does_not_grow_with_the_length():
    def peak(frames):
        stream = (torch.zeros(1, 2, 3, 2, 2) for _ in range(frames // 2))
        return peak_tensors(clips(stream, lambda c: Denoisers()(c)))

    peak(40)
    assert peak(200) <= peak(60) + 3


def test_progress_counts_clips():
    reports = []
    list(clips(LOW[:, :15], callback=reports.append))
    assert [(r.stage, r.chunk, r.chunks) for r in reports[::3]] == [
        ("upsampling", k, 3) for k in range(3)
    ]


def test_errors_name_both_numbers():
    with pytest.raises(ValueError, match="overlap 8 must be smaller than chunk 8"):
        settings(overlap=8)
    with pytest.raises(ValueError, match="overlap 4 must be smaller than the tile 4"):
        settings(tile=4, tile_overlap=4)
    with pytest.raises(ValueError, match="1000 must lie in 0 .. 999"):
        settings(noise_level=1000)
    with pytest.raises(ValueError, match=r"\[b, t, 3, h, w\], got shape \[2, 30, 2, 5, 6\]"):
        clips(LOW[:, :, :2])
    with pytest.raises(ValueError, match="noise_level 41 is above the 40"):
        model = toy_upsampler()
        how = replace(settings_of(model), noise_level=41)
        upsample(model, LOW, Prompt(None), SAMPLING, settings=how)
    with pytest.raises(ValueError, match="9 finished frames .* after 8 frames and every 5 more"):
        list(clips(done=normal(2, 9, 4, 5, 6)))


def test_without_guidance_there_is_one_evaluation_per_step():
    model, text = toy_upsampler(), normal(2, 3, 16)
    calls = []
    model.network.register_forward_hook(lambda *_: calls.append(1))
    bound = upsampler_denoiser_for(model, text)
    list(clips(LOW[:, :8], bound))
    assert len(calls) == 3
