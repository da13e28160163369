from dataclasses import replace

import pytest
import torch
from model_toys import SCHEDULE, fill, normal, toy_layers, toy_model, toy_unet
from videoldm.core.diffusion.denoiser import to_vp, x0_from_eps, x0_from_v
from videoldm.core.diffusion.preconditioning import ContinuousVPreconditioning
from videoldm.core.networks.conditions import FRAME_RATE, NOISE_LEVEL, Conditions
from videoldm.core.networks.context_frames import given_frames
from videoldm.core.networks.temporal_layers import Strength
from videoldm.core.networks.video_unet import eject

X, TEXT, SIGMA = normal(2, 3, 4, 8, 8), normal(2, 5, 16, seed=1), torch.tensor(2.0)
GIVEN = Conditions(text=TEXT)
OFF = Strength(overall=0.0)


def rated(*rates):
    return replace(GIVEN, ids={FRAME_RATE: torch.tensor(rates)})


def noised(low_res, level):
    return replace(GIVEN, concatenated=low_res, ids={NOISE_LEVEL: torch.tensor(level)})


def trained(**changes):
    model = toy_model()
    layers = fill(toy_layers(model.network.image_unet, **changes))
    return model.with_layers(layers)


@pytest.mark.parametrize("prediction", ["eps", "v", "x0"])
def test_the_denoiser_is_the_networks_prediction_turned_into_x0(prediction):
    model = toy_model(prediction=prediction)
    denoised = model.denoiser(GIVEN)(X, SIGMA)
    x_vp = to_vp(X, SIGMA)
    raw = model.network(x_vp, SCHEDULE.timestep(SIGMA), GIVEN)
    turn = {"eps": x0_from_eps, "v": x0_from_v, "x0": lambda x, p, s: p}[prediction]
    torch.testing.assert_close(denoised, turn(x_vp, raw, SIGMA), rtol=1e-4, atol=1e-5)


def test_adding_and_ejecting_layers_makes_new_models_and_changes_none():
    model = toy_model()
    plain = model.denoiser(GIVEN)(X, SIGMA)
    before = {k: v.clone() for k, v in model.network.image_unet.state_dict().items()}
    video = model.with_layers(fill(toy_layers(model.network.image_unet)))
    assert not torch.equal(video.denoiser(GIVEN)(X, SIGMA), plain)
    assert torch.equal(model.denoiser(GIVEN)(X, SIGMA), plain)
    assert torch.equal(video.ejected().denoiser(GIVEN)(X, SIGMA), plain)
    after = video.ejected().network.image_unet.state_dict()
    assert all(torch.equal(after[k], before[k]) for k in before)
    assert len(video.with_layers(video.network.sets[0]).network.sets) == 2
    assert len(video.network.sets) == 1


SETS = {
    "plain": {},
    "given frames in place": {"context_channels": 4, "context_in_place": True},
    "noise levels of their own": {"betas": ("linear", 1e-4, 2e-2)},
    "a changed image network": {"pooled_host_norms": True, "sparse_causal": True},
}


@pytest.mark.parametrize("changes", SETS.values(), ids=SETS)
def test_strength_zero_is_the_image_model(changes):
    image = toy_model()
    layers = fill(toy_layers(image.network.image_unet, **changes))
    video, silent = image.with_layers(layers), image.with_layers(layers, OFF)
    known = normal(2, 1, 4, 8, 8, seed=3)
    context = given_frames(known, [1], 3) if video.takes_context else None
    expected = image.denoiser(GIVEN)(X, SIGMA)
    assert not torch.equal(video.denoiser(replace(GIVEN, context=context))(X, SIGMA), expected)
    for model in (silent, video.with_strength(OFF)):
        denoised = model.denoiser(replace(GIVEN, context=context))(X, SIGMA)
        assert torch.equal(denoised, expected)
        assert torch.equal(model.schedule.sigmas, image.schedule.sigmas)


def test_the_last_active_set_with_noise_levels_of_its_own_brings_them():
    model = toy_model()
    model = model.with_schedule(replace(model.schedule, whole_steps=True))
    first, last = (
        toy_layers(model.network.image_unet, betas=("linear", 1e-4, end)) for end in (2e-2, 3e-2)
    )
    both = model.with_layers(first).with_layers(last)
    assert both.schedule.betas[-1] == pytest.approx(3e-2) and both.schedule.whole_steps
    assert model.with_layers(first).with_layers(last, OFF).schedule.betas[-1] == pytest.approx(2e-2)
    for made in (both.ejected(), both.with_strength(OFF)):
        assert made.schedule is model.schedule


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_network_of_low_precision_takes_and_gives_float32(dtype):
    model = trained(context_channels=4, rates=2)
    expected = model.denoiser(rated(1))(X, SIGMA)
    model.network.to(dtype)
    denoised = model.denoiser(rated(1))(X, SIGMA)
    assert denoised.dtype == torch.float32 and model.dtype == dtype
    assert (denoised - expected).abs().mean() < 0.05 * expected.abs().mean()


def test_given_frames_and_the_frame_rate_reach_the_layers():
    model = trained(context_channels=4, rates=2)
    context = given_frames(normal(2, 1, 4, 8, 8, seed=3), [0], 3)
    none = model.denoiser(GIVEN)(X, SIGMA)
    assert not torch.equal(model.denoiser(replace(GIVEN, context=context))(X, SIGMA), none)
    assert not torch.equal(model.denoiser(rated(0))(X, SIGMA), none)
    both = model.denoiser(rated(0, 1))(X, SIGMA)
    torch.testing.assert_close(both[1:], model.denoiser(rated(1))(X, SIGMA)[1:])


def test_layers_that_know_given_frames_are_told_when_there_are_none():
    model = trained(context_channels=4)
    context = given_frames(normal(2, 1, 4, 8, 8), [0], 3)
    dropped = model.denoiser(replace(GIVEN, context=context.dropped()))(X, SIGMA)
    assert torch.equal(model.denoiser(GIVEN)(X, SIGMA), dropped)


def upsampler():
    unet = toy_unet(in_channels=7, num_class_embeds=50)
    return toy_model(unet, max_noise_level=40)


def test_an_upsampler_sees_the_low_resolution_frames_unscaled_behind_the_latents():
    model = upsampler()
    low = normal(2, 3, 3, 8, 8, seed=4)
    seen = []
    model.network.image_unet.conv_in.register_forward_pre_hook(lambda m, a: seen.append(a[0]))
    denoised = model.denoiser(noised(low, 20))(X, SIGMA)
    assert denoised.shape == X.shape
    torch.testing.assert_close(seen[0][:, 4:], low.flatten(0, 1))
    torch.testing.assert_close(seen[0][:, :4], to_vp(X, SIGMA).flatten(0, 1))
    other = model.denoiser(noised(low, 5))(X, SIGMA)
    assert not torch.equal(denoised, other)


def test_every_frame_may_have_a_noise_level_of_its_own():
    model, sigma = toy_model(), torch.tensor([[2.0, 1.0, 0.5], [0.1, 0.2, 3.0]])
    each = model.denoiser(GIVEN)(X, sigma)
    for k in range(3):
        alone = model.denoiser(GIVEN)(X[:, k : k + 1], sigma[:, k])
        torch.testing.assert_close(each[:, k : k + 1], alone, rtol=1e-4, atol=1e-5)


def test_what_is_given_once_serves_every_video():
    model = toy_model()
    both = model.denoiser(Conditions(text=TEXT[:1]))(X, SIGMA)
    same = model.denoiser(Conditions(text=TEXT[:1].expand(2, -1, -1)))(X, SIGMA)
    assert torch.equal(both, same)


def test_a_model_of_continuous_noise_levels_samples_but_has_no_schedule():
    model = replace(toy_model(), preconditioning=ContinuousVPreconditioning())
    assert model.denoiser(GIVEN)(X, torch.tensor(700.0)).isfinite().all()
    with pytest.raises(ValueError, match="continuous from 0.002 to 700.0"):
        model.schedule  # noqa: B018


def test_the_task_is_the_networks_own_or_that_of_the_layers_that_say_one_last():
    model = toy_model()
    assert model.task == ""
    unet = eject(model.network)
    for task in ("prediction", "interpolation"):
        model = model.with_layers(toy_layers(unet, task=task))
    assert model.with_layers(toy_layers(unet)).task == "interpolation"
    assert replace(model, own_task="upsampling").task == "upsampling"
    assert model.ejected().task == ""
    with pytest.raises(ValueError, match="'dreaming' must be one of text to video"):
        toy_model(own_task="dreaming")


def test_scaling_latents_and_back_is_the_identity():
    model = toy_model(latent_scale=0.18, latent_shift=0.7)
    torch.testing.assert_close(model.unscaled(model.scaled(X)), X)
    assert model.scaled(torch.full((1,), 0.7)).item() == 0


def test_conditions_that_do_not_fit_are_refused_with_both_numbers():
    model, context = toy_model(), given_frames(X[:, :2], [0, 1], 3)
    with pytest.raises(
        ValueError,
        match="0 sets of temporal layers takes text, times, reference, but was also given context",
    ):
        model.denoiser(replace(GIVEN, context=context))
    with pytest.raises(ValueError, match="takes 0 channels besides the 4 .* 3 were given"):
        model.denoiser(replace(GIVEN, concatenated=normal(2, 3, 3, 8, 8)))
    with pytest.raises(ValueError, match="takes 3 channels besides the 4 .* 0 were given"):
        upsampler().denoiser(GIVEN)
    with pytest.raises(ValueError, match="noise level 41 .* at most 40"):
        upsampler().denoiser(noised(normal(2, 3, 3, 8, 8), 41))
    with pytest.raises(ValueError, match=r"\[2, 3, 3, 4, 4\] does not fit .*\[2, 3, 4, 8, 8\]"):
        upsampler().denoiser(noised(normal(2, 3, 3, 4, 4), 1))(X, SIGMA)
    with pytest.raises(ValueError, match=r"\[2, 3, 4, 8, 8\] do not fit .*\[2, 2, 4, 8, 8\]"):
        trained(context_channels=4).denoiser(replace(GIVEN, context=context))(X[:, :2], SIGMA)
    with pytest.raises(ValueError, match="'w'"):
        toy_model(prediction="w")
    with pytest.raises(ValueError, match="one of 4 latent channels, not of 8"):
        toy_model(latent_channels=8)
