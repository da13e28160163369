"""KSampler, KSamplerAdvanced, mixed prompts and ControlNets in the standalone host."""

from __future__ import annotations

import pytest
import torch
from diffusers import ControlNetModel
from safetensors.torch import save_file
from videoldm.core.diffusion import schedules
from videoldm.core.tasks.segment import SegmentCondition
from videoldm.nodes.host.interface import Guidance
from videoldm.nodes.host.shared.conditioning import branches, hint_indices, with_frames
from videoldm.nodes.host.standalone.control import hint, level_of, with_hint
from videoldm.nodes.host.standalone.core_sampling import (
    SAMPLER_NAMES,
    SCHEDULER_NAMES,
    SamplerSettings,
    run_sigmas,
    sigmas_for,
)
from videoldm.nodes.host.standalone.loaders import with_whole_steps

SCHEDULE = schedules.scaled_linear()


@pytest.fixture
def toy(run):
    model, clip, _ = run("VideoLDM_LoadImageModel").values
    prompts = {"positive": clip.encode("a red circle"), "negative": clip.encode("")}
    latent = {"samples": torch.randn(3, 4, 4, 4, generator=torch.Generator().manual_seed(1))}
    return {"model": model, "latent_image": latent, **prompts}


def sampled(run, toy, **changed) -> torch.Tensor:
    return run("KSampler", **{**toy, "steps": 4, "seed": 7, "cfg": 2.0, **changed})["samples"]


def advanced(run, toy, **changed) -> torch.Tensor:
    inputs = {"steps": 4, "noise_seed": 7, "cfg": 2.0, **changed}
    return run("KSamplerAdvanced", **{**toy, **inputs})["samples"]


# --------------------------------------------------------------------------------------------------
# Samplers.


@pytest.mark.parametrize("name", SAMPLER_NAMES)
def test_every_sampler_ends_without_noise(run, toy, name):
    steps = sampled(run, toy, sampler_name=name, scheduler="karras", steps=6)
    assert bool(steps.isfinite().all()) and steps.shape == (3, 4, 4, 4)
    if name.endswith("_gpu"):
        plain = sampled(
            run, toy, sampler_name=name.removesuffix("_gpu"), scheduler="karras", steps=6
        )
        assert torch.equal(steps, plain)


def test_fresh_noise_is_that_of_the_next_seed(run, toy):
    """The noise that LCM adds to its first estimate is one draw for the whole batch."""
    core = toy["model"].core
    latent = {"samples": torch.zeros(3, 4, 4, 4)}
    two = {"sampler_name": "lcm", "scheduler": "normal", "steps": 2, "latent_image": latent}
    half = {"end_at_step": 1, "return_with_leftover_noise": "enable"}
    noisy = advanced(run, toy, add_noise="enable", **two, **half)
    clean = advanced(run, toy, add_noise="enable", sampler_name="euler", scheduler="normal",
                     steps=2, latent_image=latent, end_at_step=1)  # fmt: skip
    sigma = sigmas_for(core.schedule, "normal", 2)[1]
    drawn = torch.randn(3, 4, 4, 4, generator=torch.Generator().manual_seed(8))
    torch.testing.assert_close(
        (noisy - clean) * core.latent_scale, sigma * drawn, atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("name", ["euler", "heun", "ddim"])
def test_a_sampling_in_two_parts_is_the_whole(run, toy, name):
    first = advanced(run, toy, sampler_name=name, end_at_step=2, add_noise="enable",
                     return_with_leftover_noise="enable")  # fmt: skip
    second = advanced(run, toy, sampler_name=name, start_at_step=2, add_noise="disable",
                      latent_image={"samples": first})  # fmt: skip
    torch.testing.assert_close(second, sampled(run, toy, sampler_name=name), atol=1e-4, rtol=1e-4)


def test_no_step_at_all_gives_the_latents_back_with_what_they_carry(run, toy):
    latent = toy["latent_image"] | {"batch_index": [4, 5, 6], "downscale_ratio_spacial": 8}
    for part in ({"start_at_step": 4}, {"end_at_step": 0}, {"start_at_step": 9}):
        got = run("KSamplerAdvanced", **{**toy, "latent_image": latent, "steps": 4, **part})
        torch.testing.assert_close(got["samples"], latent["samples"])
        assert set(got) == {"samples", "batch_index"}


# --------------------------------------------------------------------------------------------------
# Noise levels.


def walked(**changed) -> torch.Tensor:
    settings = {"seed": 0, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal"}
    return run_sigmas(SCHEDULE, SamplerSettings(**{**settings, **changed}))


@pytest.mark.parametrize("name", SCHEDULER_NAMES)
def test_any_number_of_steps_is_done(name):
    expected = min(1500, 999) if name == "ddim_uniform" else 1500
    whole = walked(steps=1500, scheduler=name)
    assert len(whole) == expected + 1 and whole[-1] == 0
    end = walked(steps=20, denoise=0.01, scheduler=name)
    assert torch.equal(end, walked(steps=2000, scheduler=name)[-21:])


def test_parts_of_the_list():
    whole = walked(steps=8)
    assert torch.equal(walked(steps=8, first=3), whole[3:])
    assert torch.equal(walked(steps=8, first=2, last=5), whole[2:6])
    ended = walked(steps=8, first=2, last=5, keep_noise=False)
    assert torch.equal(ended[:-1], whole[2:5]) and ended[-1] == 0
    assert len(walked(steps=8, first=8)) == 1 and len(walked(steps=8, first=9)) == 0


def test_unipc_leaves_the_last_level_out():
    wide = walked(steps=9)
    assert torch.equal(walked(steps=8, sampler_name="uni_pc"), torch.cat([wide[:-2], wide[-1:]]))


def test_published_models_are_told_whole_timesteps(toys):
    from videoldm.core.families.embedded import loading as embedded

    found = embedded.load_image_model()
    whole = with_whole_steps(found).model.schedule
    sigmas = schedules.get_sigmas("karras", whole, 12)[:-1]
    steps = whole.timestep(sigmas)
    assert torch.equal(steps, steps.round())
    assert not torch.equal(steps, found.model.schedule.timestep(sigmas))


# --------------------------------------------------------------------------------------------------
# Prompts.


def denoised(toys, toy, prompt, sigma: float) -> torch.Tensor:
    for_segment = toys.denoiser_for(toy["model"], prompt, prompt, Guidance(cfg=1.0))
    x = torch.randn(1, 3, 4, 4, 4, generator=torch.Generator().manual_seed(2)) * sigma
    return for_segment(SegmentCondition(frames=range(3)))(x, torch.tensor(sigma))


def test_combined_prompts_are_averaged(run, toys, toy):
    one, other = toy["positive"], toy["negative"]
    both = run("ConditioningCombine", conditioning_1=one, conditioning_2=other)
    expected = (denoised(toys, toy, one, 3.0) + denoised(toys, toy, other, 3.0)) / 2
    torch.testing.assert_close(denoised(toys, toy, both, 3.0), expected)


def test_a_prompt_acts_in_its_range_of_noise_levels(run, toys, toy):
    one, other = toy["positive"], toy["negative"]
    border = level_of(toy["model"].core.schedule, 0.4)
    early = run("ConditioningSetTimestepRange", conditioning=one, start=0.0, end=0.4)
    late = run("ConditioningSetTimestepRange", conditioning=other, start=0.4, end=1.0)
    both = [*early, *late]
    for sigma, acting in ((border * 1.01, one), (border * 0.99, other)):
        expected = denoised(toys, toy, acting, sigma)
        torch.testing.assert_close(denoised(toys, toy, both, sigma), expected)
    assert not denoised(toys, toy, early, border / 2).any()


def test_levels_of_a_fraction_of_the_way():
    assert level_of(SCHEDULE, 0.0) == float("inf") and level_of(SCHEDULE, 1.0) == 0
    assert level_of(SCHEDULE, 0.5) == pytest.approx(SCHEDULE.sigma(torch.tensor(499.5)).item())


def test_branches_of_a_conditioning():
    prompt = [[torch.zeros(1, 2, 3), {}]]
    assert len(branches(prompt * 3)) == 3
    assert len(branches([*with_frames(prompt, 0, 4), *with_frames(prompt, 4, 8)])) == 1
    with pytest.raises(ValueError, match="1 of the 3 prompts"):
        branches([*with_frames(prompt, 0, 4), *with_frames(prompt, 4, 8), *prompt])


def tokens(*values: float, **more):
    return [[torch.tensor(values).reshape(1, -1, 1).expand(-1, -1, 2).clone(), {**more}]]


def test_prompts_are_put_behind_each_other_mixed_and_zeroed(run, toys, monkeypatch):
    to, source = tokens(1, 2, 3, note="kept"), tokens(5, 7)
    behind = run("ConditioningConcat", conditioning_to=to, conditioning_from=source)
    assert behind[0][0][0, :, 0].tolist() == [1, 2, 3, 5, 7] and behind[0][1] == {"note": "kept"}
    mixed = run("ConditioningAverage", conditioning_to=to, conditioning_from=source,
                conditioning_to_strength=0.75)  # fmt: skip
    assert mixed[0][0][0, :, 0].tolist() == [0.75 + 1.25, 1.5 + 1.75, 2.25]
    shorter = run("ConditioningAverage", conditioning_to=source, conditioning_from=to,
                  conditioning_to_strength=0.0)  # fmt: skip
    assert shorter[0][0][0, :, 0].tolist() == [1, 2]
    pooled = tokens(1, pooled_output=torch.ones(1, 4), note=1)
    zero = run("ConditioningZeroOut", conditioning=pooled)
    assert (
        not zero[0][0].any() and not zero[0][1]["pooled_output"].any() and zero[0][1]["note"] == 1
    )
    assert bool(pooled[0][0].all())
    said = []
    monkeypatch.setattr(toys, "warn", said.append)
    run("ConditioningConcat", conditioning_to=to, conditioning_from=[*source, *source])
    assert said == ["ConditioningConcat takes the first of the 2 prompts it was given, the others "
                    "are not used"]  # fmt: skip


def test_pooled_text_is_mixed_like_the_tokens(run):
    one, two = torch.full((1, 3), 1.0), torch.full((1, 3), 5.0)
    with_both = run("ConditioningAverage", conditioning_to=tokens(1, pooled_output=one),
                    conditioning_from=tokens(1, pooled_output=two),
                    conditioning_to_strength=0.75)  # fmt: skip
    assert with_both[0][1]["pooled_output"].tolist() == [[2.0] * 3]
    taken = run("ConditioningAverage", conditioning_to=tokens(1, pooled_output=None),
                conditioning_from=tokens(1, pooled_output=two),
                conditioning_to_strength=0.75)  # fmt: skip
    assert torch.equal(taken[0][1]["pooled_output"], two)


# --------------------------------------------------------------------------------------------------
# ControlNets.


@pytest.fixture
def net(run, toy, tmp_path):
    folder = tmp_path / "models" / "controlnet"
    folder.mkdir(parents=True)
    unet = toy["model"].core.network.image_unet
    made = ControlNetModel.from_unet(unet)
    torch.manual_seed(0)
    for weight in made.parameters():
        weight.data += 0.05 * torch.randn_like(weight)
    save_file(made.state_dict(), folder / "it.safetensors")
    return run("ControlNetLoader", control_net_name="it.safetensors")


IMAGES = torch.rand(3, 48, 48, 3, generator=torch.Generator().manual_seed(5))


def with_net(run, toy, net, image, strength=1.0, **changed) -> dict:
    both = run("ControlNetApplyAdvanced", control_net=net, image=image, strength=strength,
               positive=toy["positive"], negative=toy["negative"], **changed)  # fmt: skip
    return {"positive": both.values[0], "negative": both.values[1]}


def test_every_frame_follows_its_own_image(run, toy, net):
    video = sampled(run, toy, **with_net(run, toy, net, IMAGES))
    for k in (0, 2):
        alone = sampled(run, toy, **with_net(run, toy, net, IMAGES[k : k + 1]))
        torch.testing.assert_close(video[k], alone[k], atol=1e-4, rtol=1e-4)
        assert not torch.allclose(video[1], alone[1], atol=1e-3)
    two, one = (sampled(run, toy, **with_net(run, toy, net, IMAGES[:k])) for k in (2, 1))
    torch.testing.assert_close(two[2], one[2], atol=1e-4, rtol=1e-4)


def test_without_strength_or_before_its_time_nothing_is_followed(run, toy, net):
    plain = sampled(run, toy)
    assert torch.equal(sampled(run, toy, **with_net(run, toy, net, IMAGES, 0.0)), plain)
    never = with_net(run, toy, net, IMAGES, start_percent=0.3, end_percent=0.2)
    assert torch.equal(sampled(run, toy, **never), plain)
    late = with_net(run, toy, net, IMAGES, start_percent=0.6)
    first = {"end_at_step": 2, "return_with_leftover_noise": "enable", "add_noise": "enable"}
    assert torch.equal(advanced(run, toy | late, **first), advanced(run, toy, **first))
    assert not torch.allclose(sampled(run, toy, **late), plain, atol=1e-3)


def test_the_older_node_is_for_negative_prompts_too(run, toy, net):
    positive = run("ControlNetApply", conditioning=toy["positive"], control_net=net, image=IMAGES,
                   strength=1.0)  # fmt: skip
    both = sampled(run, toy, **with_net(run, toy, net, IMAGES))
    torch.testing.assert_close(sampled(run, toy, positive=positive), both)


def test_hints_of_long_videos_are_those_of_the_frames():
    assert hint_indices(4, [0, 2, 3, 7]) == [0, 2, 3, 3]


def test_images_of_other_channels_and_values_are_refused(net):
    with pytest.raises(ValueError, match="3 channels, got 1"):
        hint(net, IMAGES[..., :1], 1.0)
    with pytest.raises(ValueError, match="NaN"):
        hint(net, IMAGES * float("nan"), 1.0)


def test_a_controlnet_of_another_family_is_refused_before_sampling(toys, toy, net):
    other = ControlNetModel(block_out_channels=(32, 32), down_block_types=("DownBlock2D",) * 2,
                            norm_num_groups=32, cross_attention_dim=8)  # fmt: skip
    wrong = with_hint(toy["positive"], hint(type(net)(other), IMAGES, 1.0))
    with pytest.raises(ValueError, match="another family"):
        toys.denoiser_for(toy["model"], wrong, toy["negative"], Guidance())
