import re

import factorised_toys as toys
import pytest
import torch
from factorised_toys import manifest
from model_toys import fill, normal
from transformers import CLIPVisionConfig, CLIPVisionModel
from videoldm.core.diffusion.denoiser import to_ve, to_vp
from videoldm.core.diffusion.samplers import sample_ddim as plain_ddim
from videoldm.core.diffusion.schedules import get_sigmas_strided, scaled_linear
from videoldm.core.families import factorised_files as files
from videoldm.core.families import open_clip_image, videocrafter
from videoldm.core.families.factorised_config import unet_config
from videoldm.core.families.factorised_sampling import (
    GUIDANCE,
    ScaledSignalSchedule,
    sample_ddim,
    unscaled_sigmas,
)
from videoldm.core.families.stable_diffusion_keys import inverse, open_clip_table, rename_all
from videoldm.core.networks.conditions import Conditions
from videoldm.core.networks.image_resampler import ImageResampler, ResamplerConfig
from videoldm.core.weights.checkpoints import CheckpointError

ONES = (1, 1, 1, 1)
PARAMETERS = {
    "videocrafter1_t2v_512": 1_144_485_956,
    "videocrafter1_t2v_1024": 1_146_536_516,
    "videocrafter2_t2v_512": 1_413_284_420,
    "videocrafter1_i2v_512": 1_438_843_460,
}


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def scales(length, last):
    return torch.cat([torch.linspace(1, last, 400), torch.full((length - 400,), last)])


def loadable(name):
    """The published names and shapes, with values where they are read."""
    state = manifest(name)
    if "scale_arr" in state:
        state["scale_arr"] = scales(len(state["scale_arr"]), 0.7)
    return state


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_key_of_a_published_file_is_used_and_none_is_missing(name):
    state = loadable(name)
    found = videocrafter.assemble(state, name, device="meta")
    assert count(found.model.network) == PARAMETERS[name]
    assert count(found.autoencoder) == 83_653_863 and found.text_encoder is not None
    back = videocrafter.to_original(found)
    prefixes = "model.diffusion_model.", "image_proj_model."
    own = {k: v.shape for k, v in state.items() if k.startswith(prefixes)}
    assert {k: v.shape for k, v in back.items()} == own
    if name == "videocrafter1_i2v_512":
        assert count(found.resampler) == 48_541_696
        assert found.image_encoder.config.num_hidden_layers == 32
        assert found.image_encoder.config.num_attention_heads == 16
    else:
        assert found.resampler is None and found.image_encoder is None


def test_what_the_published_networks_differ_in():
    told = {}
    for name in PARAMETERS:
        unet = files.take_apart(manifest(name), name).unet
        told[name] = unet_config({k: v.shape for k, v in unet.items()})
    one, large, two, image = told.values()
    assert [c.time_convolutions for c in told.values()] == [(), (), ONES, ONES]
    assert [c.frames_per_second for c in told.values()] == [False, True, True, True]
    assert [c.attention.max_distance for c in told.values()] == [16, 16, None, None]
    assert [c.attention.image for c in told.values()] == [None, None, None, 1024]
    for config in told.values():
        assert config.channels == (320, 640, 1280, 1280) and config.attention.head_width == 64
        assert config.attended == (True, True, True, False) and config.first_attention
        assert not config.pooled_norm


def test_kinds_of_files():
    def kind(name):
        return videocrafter.detect({k: v.shape for k, v in manifest(name).items()})

    assert kind("videocrafter1_i2v_512") == "image to video"
    assert kind("videocrafter1_t2v_512") == "text to video"
    assert kind("lvdm_t2v") is None
    with pytest.raises(
        CheckpointError, match="not a VideoCrafter model: it is a video model .LVDM"
    ):
        videocrafter.assemble(manifest("lvdm_t2v"), "a")


def test_half_precision_weights_become_what_is_asked_for():
    state = toys.checkpoint("videocrafter image", average=False, first_stage=False)
    half = {k: v.half() for k, v in state.items()}
    found = videocrafter.assemble(half, "a")
    assert all(v.dtype == torch.float32 for v in found.model.network.state_dict().values())
    assert videocrafter.assemble(half, "a", dtype=torch.float16).model.dtype == torch.float16


def test_projections_may_be_convolutions_of_one_position():
    state = toys.checkpoint("videocrafter 1", average=False, first_stage=False)

    def as_convolution(key, weight):
        projects = re.search(r"\.(\d)\.proj_(in|out)\.weight$", key)
        if projects is None or weight.ndim > 2:
            return weight
        return weight[..., None, None] if projects[1] == "1" else weight[..., None]

    convolved = {k: as_convolution(k, v) for k, v in state.items()}
    assert any(v.ndim != state[k].ndim for k, v in convolved.items())
    one, two = (videocrafter.assemble(s, "a").model.network for s in (state, convolved))
    assert all(torch.equal(v, two.state_dict()[k]) for k, v in one.state_dict().items())


def test_an_unknown_key_is_refused():
    state = toys.checkpoint("videocrafter 1", average=False, first_stage=False)
    with pytest.raises(CheckpointError, match=r"a has unknown keys \(1\): more.weight"):
        videocrafter.assemble(state | {"more.weight": torch.ones(1)}, "a")


# -------------------------------------------------------------------------------- image to video


def test_the_resampler_makes_as_many_tokens_whatever_the_image():
    config = ResamplerConfig(width=32, depth=2, heads=2, head_width=8, embedding=20, out=24)
    module = fill(ImageResampler(config).eval().requires_grad_(False))
    tokens = module(normal(2, 50, 20))
    assert tokens.shape == (2, 16, 24) and not torch.allclose(tokens[0], tokens[1])
    assert module(normal(1, 10, 20)).shape == (1, 16, 24)


def test_the_image_encoder_gives_what_stands_before_its_last_norm():
    config = CLIPVisionConfig(
        hidden_size=160, intermediate_size=320, num_hidden_layers=2, num_attention_heads=2,
        patch_size=4, image_size=16, hidden_act="gelu",
    )  # fmt: skip
    torch.manual_seed(2)
    own = CLIPVisionModel(config).eval().requires_grad_(False)
    encoder = open_clip_image.from_state(as_open_clip(own), "a")
    pixels = normal(1, 3, 16, 16)
    got = encoder(pixels).last_hidden_state
    assert got.shape == (1, 17, 160)
    torch.testing.assert_close(got, own(pixels).last_hidden_state)
    with pytest.raises(CheckpointError, match=r"lacks keys \(2\): embeddings.patch_embedding"):
        open_clip_image.from_state({"class_embedding": torch.zeros(4)}, "a")


def as_open_clip(encoder):
    state = {k.removeprefix("vision_model."): v for k, v in encoder.state_dict().items()}
    state = {k: v for k, v in state.items() if "position_ids" not in k}
    layers = encoder.config.num_hidden_layers
    found = {}
    for i in range(layers):
        for kind in ("weight", "bias"):
            names = [f"encoder.layers.{i}.self_attn.{x}_proj.{kind}" for x in "qkv"]
            fused = torch.cat([state.pop(name) for name in names])
            found[f"transformer.resblocks.{i}.attn.in_proj_{kind}"] = fused
    table = {k: v for k, v in open_clip_table(layers).items() if "resblocks" in k}
    table |= open_clip_image.ENDS
    return found | rename_all(state, inverse(table), "the encoder")


# ------------------------------------------------------------------------------ scaled signals


def scaled_schedule(last=0.7):
    plain = scaled_linear()
    return ScaledSignalSchedule(plain.alphas_cumprod, signal_scales=scales(1000, last))


def test_the_signal_is_scaled_beside_the_noise():
    schedule, t = scaled_schedule(), torch.tensor([0, 200, 999])
    abar = schedule.alphas_cumprod[t]
    signal, spread = schedule.signal_and_spread(t, torch.ones(3, 1, dtype=torch.float64))
    expected = torch.tensor([1, 1 - 0.3 * 200 / 399, 0.7], dtype=torch.float64)
    torch.testing.assert_close(signal[:, 0] / abar.sqrt(), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(spread[:, 0], (1 - abar).sqrt())
    sigma = schedule.sigmas[t]
    torch.testing.assert_close(schedule.input_scale(sigma), signal[:, 0])
    torch.testing.assert_close(schedule.input_scale(sigma) * sigma, spread[:, 0])
    torch.testing.assert_close(
        unscaled_sigmas(schedule, sigma), scaled_linear().sigmas[t], atol=1e-9, rtol=1e-6
    )
    assert schedule.input_scale(torch.tensor(0.0)) == 1


def test_without_a_scale_it_is_the_usual_ddim():
    schedule, start = scaled_linear(), normal(1, 2, 4, 3, 3)

    def denoiser(x, sigma):
        return torch.tanh(x / (1 + sigma)) + 0.1

    def noise(i, x):
        return normal(*x.shape, seed=i + 1)

    sigmas = get_sigmas_strided(schedule, 7, end_on_first=True)
    x = plain_ddim(denoiser, to_ve(start, sigmas[0]), sigmas, noise=noise, eta=1.0)
    made = sample_ddim(denoiser, start, schedule, 7, eta=1.0, step_noise=noise)
    torch.testing.assert_close(made, to_vp(x, sigmas[-1]))
    ones = ScaledSignalSchedule(schedule.alphas_cumprod, signal_scales=torch.ones(1000))
    same = sample_ddim(denoiser, start, ones, 7, eta=1.0, step_noise=noise)
    torch.testing.assert_close(same, made)
    with pytest.raises(ValueError, match="no noise was given"):
        sample_ddim(denoiser, start, schedule, 2, eta=1.0)


def test_steps_that_do_not_divide_the_schedule_never_leave_it():
    """The original indexes past its table at 3 steps."""
    seen = []

    def denoiser(x, sigma):
        seen.append(scaled_linear().timestep(sigma).item())
        return x

    sample_ddim(denoiser, normal(1, 1, 1, 1, 1), scaled_linear(), 3, eta=0.0)
    assert seen == [667, 334, 1]


@pytest.mark.parametrize("form, scale, expected", [
    ("usual", 7.5, -1 + 7.5 * 3), ("cfg_original", 0.1, 2 + 0.1 * 3), ("cfg_ours", 0.5, 2 - 0.5 * 3)
])  # fmt: skip
def test_forms_of_guidance(form, scale, expected):
    cond, uncond = 2.0, -1.0
    assert uncond + GUIDANCE[form](scale) * (cond - uncond) == pytest.approx(expected)


def test_a_table_of_scales_that_is_too_short_is_refused():
    def schedule(table):
        return videocrafter.schedule_of({files.SIGNAL_SCALES: table}, "a")

    assert isinstance(schedule(scales(1400, 0.7)), ScaledSignalSchedule)
    assert type(videocrafter.schedule_of({}, "a")) is type(scaled_linear())
    with pytest.raises(CheckpointError, match="a has 500 signal scales for 1000 steps"):
        schedule(scales(500, 0.7))


def test_a_loaded_model_denoises_with_its_own_scales():
    state = toys.checkpoint("videocrafter image", average=False, first_stage=False)
    with_scales = videocrafter.assemble(state | {"scale_arr": scales(1400, 0.3)}, "a").model
    without = videocrafter.assemble(state, "a").model
    given = Conditions(text=normal(1, 7, 24), image=normal(1, 3, 12))
    x = normal(1, 3, 4, 4, 4)
    made = [m.denoiser(given)(x, torch.tensor(3.0)) for m in (with_scales, without)]
    assert not torch.allclose(*made, atol=1e-3)
