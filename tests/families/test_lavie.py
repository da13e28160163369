from dataclasses import replace

import pytest
import torch
from lavie_parts import NEGATIVE, TEXT, model_of
from model_toys import fill, normal, seeded
from videoldm.core.diffusion.preconditioning import discrete
from videoldm.core.diffusion.schedules import scaled_linear
from videoldm.core.families import lavie_sampling as sampling
from videoldm.core.families import lavie_upsampling as upsampling
from videoldm.core.networks.conditions import Conditions
from videoldm.core.networks.diffusion_model import DiffusionModel
from videoldm.core.networks.video_unet import VideoUNet, eject
from videoldm.core.tasks import keyframe_conditioning as keyframes
from videoldm.core.tasks.independent_chunks import NoiseStream
from videoldm.core.tasks.segment import SegmentCondition

PROMPTS = sampling.Prompts(text=TEXT, negative=NEGATIVE, scale=3.0)


# ---------------------------------------------------------------------------------------- sampling


@pytest.mark.parametrize("method", ["ddpm", "ddim", "euler"])
@pytest.mark.parametrize("steps", [1, 3, 50])
def test_text_to_video_by_every_method(method, steps):
    how = sampling.plan(method, steps)
    assert len(how.sigmas) == steps + 1
    if steps == 3:
        made = sampling.text_to_video(
            model_of("base"), PROMPTS, normal(1, 3, 4, 4, 4), method=method, steps=steps,
            step_noise=lambda i, x: normal(*x.shape, seed=i),
        )  # fmt: skip
        assert torch.isfinite(made).all()


def test_respaced_timesteps_are_spread_evenly_whatever_their_number():
    """round(k 999 / (N - 1)), except for exact halves, where the original's running sum may fall
    on either side: at 21 steps it gives 499 for 499.5."""
    for steps in range(2, 1001):
        found = sampling.respaced_timesteps(steps).tolist()[::-1]
        assert found[0] == 0 and found[-1] == 999 and len(set(found)) == steps
        for k, got in enumerate(found):
            twice, odd = divmod(2 * k * 999, steps - 1)
            halfway = odd == 0 and twice % 2
            assert abs(2 * got - twice) == 1 if halfway else got == round(k * 999 / (steps - 1))
    assert sampling.respaced_timesteps(21)[10] == 499
    assert sampling.respaced_timesteps(1).tolist() == [0]
    with pytest.raises(ValueError, match="1001"):
        sampling.respaced_timesteps(1001)


def test_guidance_below_one_is_off_where_the_original_has_it_off():
    model, x = model_of("interpolation"), normal(1, 5, 4, 4, 4)
    condition, weak = keyframes.copied_keys(normal(1, 2, 4, 4, 4)), replace(PROMPTS, scale=0.5)
    off = replace(PROMPTS, negative=None)
    made = [sampling.interpolate(model, condition, how, x, steps=1) for how in (weak, off)]
    assert not torch.allclose(*made)
    made = [sampling.text_to_video(model_of("base"), how, x, method="ddim", steps=1)
            for how in (weak, off)]  # fmt: skip
    assert torch.equal(*made)


def test_layers_bring_their_schedule_and_leave_with_it():
    (layers,) = model_of("base").network.sets
    unet = fill(eject(model_of("base").network), seed=7)
    eps = discrete("eps", scaled_linear())
    host = DiffusionModel(network=VideoUNet(unet, []), preconditioning=eps, factor=8,
                          latent_scale=0.18215)  # fmt: skip
    video = host.with_layers(layers).with_layers(layers)
    assert video.schedule.betas[-1].item() == pytest.approx(2e-2)
    assert video.ejected().schedule is host.schedule


def test_euler_tells_the_network_real_timesteps():
    how = sampling.plan("euler", 50)
    expected = torch.linspace(999, 0, 50, dtype=torch.float64)
    told = how.schedule.timestep(how.sigmas[:-1]).double()
    torch.testing.assert_close(told, expected, atol=2e-3, rtol=0)
    assert how.sigmas[0].item() == pytest.approx(157.4072723, rel=1e-6)


def test_guidance_is_off_at_scale_1():
    model, x = model_of("base"), normal(1, 2, 4, 4, 4)
    guided = replace(PROMPTS, scale=1.0).denoiser(model, SegmentCondition(frames=range(x.shape[1])))
    plain = model.denoiser(Conditions(text=TEXT))
    assert torch.equal(guided(x, torch.tensor(2.0)), plain(x, torch.tensor(2.0)))


def test_key_frame_k_serves_the_frames_around_it():
    assert keyframes.key_of_frame(4).tolist() == [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3]
    assert keyframes.key_of_frame(1).tolist() == [0]
    for keys in range(1, 40):
        frames = keyframes.key_of_frame(keys)
        assert len(frames) == 4 * keys - 3
        assert frames[::4].tolist() == list(range(keys))
    with pytest.raises(ValueError, match="at least 1 key frame, got 0"):
        keyframes.key_of_frame(0)


def test_a_clip_is_stretched_to_two_frames_or_more():
    assert sampling.stretched_frames(5, 2) == [0, 4] and sampling.stretched_frames(1, 2) == [0, 0]
    for length, frames in ((0, 61), (5, 1)):
        with pytest.raises(ValueError, match=f"got {length} and {frames}"):
            sampling.stretched_frames(length, frames)


def test_long_interpolations_are_made_in_windows_that_agree_with_their_own_keys():
    model, keys = model_of("interpolation"), normal(1, 5, 4, 4, 4)
    condition, noise = keyframes.copied_keys(keys), normal(1, 17, 4, 4, 4, seed=3)
    short = dict(steps=2, windows=sampling.KeyWindows(9, 5))
    made = sampling.interpolate(model, condition, PROMPTS, noise, **short)
    assert made.shape == noise.shape
    # A window's part of the condition is what its own key frames alone would give.
    assert torch.equal(condition[:, 8:17], keyframes.copied_keys(keys[:, 2:]))
    with pytest.raises(ValueError, match="do not begin on key frames"):
        windows = sampling.KeyWindows(9, 4)
        sampling.interpolate(model, condition, PROMPTS, noise, steps=2, windows=windows)


def test_windows_of_the_published_length_share_13_frames_and_fade_into_each_other():
    """157 frames in windows of 61 that begin at 0, 48 and 96; the weight of a frame falls with its
    distance from the middle of its window."""
    begun = []

    def denoiser_for(told):
        begun.append((told.frames.start, told.frames.stop))
        return lambda x, sigma: torch.full_like(x, float(told.frames.start))

    frames = torch.zeros(1, 157, 1, 1, 1)
    denoise = keyframes.interpolating_denoiser(denoiser_for, frames)
    made = denoise(frames, torch.tensor(1.0))[0, :, 0, 0, 0]
    assert begun == [(0, 61), (48, 109), (96, 157)]
    assert made[:48].unique() == 0 and made[61:96].unique() == 48 and made[109:].unique() == 96
    earlier, later = torch.arange(13, 0, -1.0), torch.arange(1, 14.0)
    torch.testing.assert_close(made[48:61], 48 * later / (earlier + later))


def test_interpolation_takes_windows_of_the_published_length_by_itself():
    model, begun = model_of("interpolation"), set()
    model.network.register_forward_pre_hook(
        lambda _, inputs: begun.add(round(inputs[2].concatenated[0, 0, 0, 0, 0].item()))
    )
    condition = torch.arange(157.0).reshape(1, -1, 1, 1, 1).expand(1, -1, 4, 2, 2)
    sampling.interpolate(model, condition, PROMPTS, normal(1, 157, 4, 2, 2), steps=1)
    assert begun == {0, 48, 96}


@pytest.mark.parametrize("window, overlap", [(10, 2), (9, 4), (9, 9), (9, -3)])
def test_windows_that_do_not_begin_and_end_on_key_frames_are_refused(window, overlap):
    frames = torch.zeros(1, 17, 4, 2, 2)
    with pytest.raises(ValueError, match=f"of {window} frames that share {overlap} do not begin"):
        keyframes.interpolating_denoiser(lambda told: None, frames, window=window, overlap=overlap)


def test_the_variant_with_a_mask():
    model, mask = model_of("interpolation", in_channels=9), keyframes.generated_mask(9)
    assert mask.tolist() == [0, 1, 1, 1, 0, 1, 1, 1, 0]
    condition = keyframes.masked_latents(normal(1, 9, 4, 4, 4), mask)
    made = sampling.interpolate(model, condition, PROMPTS, normal(1, 9, 4, 4, 4), steps=2)
    assert made.shape == (1, 9, 4, 4, 4)
    with pytest.raises(ValueError, match="5 channels"):
        sampling.interpolate(model, condition[:, :, 1:], PROMPTS, normal(1, 9, 4, 4, 4), steps=2)


def test_chunks_are_independent_and_draw_from_one_stream():
    model, low_res = model_of("vsr"), normal(1, 5, 3, 4, 6).clamp(-1, 1)
    noise = NoiseStream(seeded(10))
    short = dict(steps=2, chunks=upsampling.Chunks(chunk=3))
    made = list(upsampling.upsample_chunks(model, low_res, PROMPTS, noise, **short))
    assert [chunk.shape[1] for chunk in made] == [3, 2]
    again = NoiseStream(seeded(10))
    for shape in ((1, 3, 3, 4, 6), (1, 3, 4, 4, 6)):
        again(shape)
    (last,) = upsampling.upsample_chunks(model, low_res[:, 3:], PROMPTS, again, **short)
    torch.testing.assert_close(last, made[1])


def test_blended_windows_do_not_depend_on_length_where_they_are_the_same():
    """Frames 0 and 1 are in the first window only. After one step they are the same for any number
    of frames; after two, the first window has seen its last frames averaged with the next window.
    """
    model, low_res = model_of("vsr"), normal(1, 7, 3, 4, 4).clamp(-1, 1)
    chunks = upsampling.Chunks(chunk=4, overlap=2)
    short = dict(steps=2, chunks=chunks)
    made = upsampling.upsample_blended(model, low_res, PROMPTS, 3, **short)
    assert made.shape == (1, 7, 4, 4, 4) and torch.isfinite(made).all()
    for steps, frames, tolerance in ((1, 2, 1e-6), (2, 1, 0.02)):
        longer, shorter = (
            upsampling.upsample_blended(model, part, PROMPTS, 3, steps=steps, chunks=chunks)
            for part in (low_res, low_res[:, :4])
        )
        apart = (longer[:, :frames] - shorter[:, :frames]).abs().max()
        assert apart <= tolerance  # Another seed gives 2.
    chunks = replace(chunks, tile=3, tile_overlap=1)
    tiles = upsampling.upsample_blended(model, low_res, PROMPTS, 3, steps=2, chunks=chunks)
    assert tiles.shape == made.shape


def test_the_network_never_sees_more_than_one_chunk():
    model, seen = model_of("vsr"), []
    model.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    low_res = normal(1, 19, 3, 4, 4)
    upsampling.upsample_blended(model, low_res, PROMPTS, 0, steps=1)
    chunks = upsampling.upsample_chunks(
        model, iter(low_res.split(3, dim=1)), PROMPTS, NoiseStream(seeded()), steps=1
    )
    assert sum(chunk.shape[1] for chunk in chunks) == 19
    assert set(seen) == {8, 3}


def test_the_noise_level_has_a_limit():
    model, low_res = model_of("vsr"), normal(1, 2, 3, 4, 4)
    assert model.max_noise_level == 350
    with pytest.raises(ValueError, match="351"):
        upsampling.upsample_blended(
            model, low_res, PROMPTS, 0, chunks=upsampling.Chunks(noise_level=351)
        )


def test_two_schedules_are_in_play():
    model = model_of("vsr")
    noised = upsampling.noised_low_res(model, torch.ones(1, 1, 1, 1, 1), torch.zeros(1), 50)
    assert noised.item() == pytest.approx(0.995411, abs=1e-6)
    assert model.schedule.betas[500] != model.noise_schedule_for_low_res.betas[500]
