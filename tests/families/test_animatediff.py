"""Motion modules: their files in every packing, and what they do in an image model."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from animatediff_toys import (
    TEXT,
    TWO_LEVELS,
    VIDEO,
    forward,
    same,
    toy_config,
    toy_layers,
    toy_state,
    toy_unet_of_one_seed,
)
from diffusers import MotionAdapter
from model_toys import fill, normal, toy_unet
from safetensors.torch import save_file
from videoldm.core.diffusion.preconditioning import discrete
from videoldm.core.diffusion.schedules import scaled_linear
from videoldm.core.families import animatediff, family_of, load_temporal_layers
from videoldm.core.families import animatediff_keys as keys
from videoldm.core.families.animatediff_config import VARIANTS, detect
from videoldm.core.families.animatediff_lora import MotionLora, with_loras
from videoldm.core.families.animatediff_sampling import lcm_timesteps, published_plan
from videoldm.core.families.conversion import identify
from videoldm.core.families.lora import parse
from videoldm.core.families.stable_diffusion_folders import build_unet
from videoldm.core.networks.conditions import Conditions
from videoldm.core.networks.context_frames import given_frames
from videoldm.core.networks.diffusion_model import DiffusionModel
from videoldm.core.networks.injected_sets import Injection
from videoldm.core.networks.layers.block_attention import BlockAttentionSpec
from videoldm.core.networks.layers.positions import interleaved_sinusoid
from videoldm.core.networks.layers.specs import LayerInputs
from videoldm.core.networks.sites import SD1, SDXL, layout_of
from videoldm.core.networks.temporal_layers import Strength, TemporalLayers
from videoldm.core.networks.temporal_layers_spec import TemporalLayersSpec
from videoldm.core.networks.video_unet import VideoUNet
from videoldm.core.weights.checkpoints import CheckpointError

MANIFESTS = Path(__file__).parents[1] / "manifests"
# Manifest: variant, how its keys are spelt, positions, number of modules.
PUBLISHED = {
    "mm_sd_v14_v15": ("v1", "original", 24, 20),
    "mm_sd_v15_v2": ("v2", "original", 32, 21),
    "v3_sd15_mm": ("v3", "original", 32, 20),
    "mm_sdxl_v10_beta": ("sdxl", "original", 32, 15),
    "hotshotxl": ("hotshot xl", "hotshot", 24, 15),
    "animatelcm_t2v": ("animatelcm", "original", 64, 21),
    "animatelcm_i2v": ("animatelcm i2v", "original", 64, 21),
    "pia": ("pia", "original", 32, 20),
    "diffusers_motion_adapter_v1": ("v1", "diffusers", 24, 20),
    "diffusers_motion_adapter_v1_5_2": ("v2", "diffusers", 32, 21),
    "diffusers_motion_adapter_v1_5_3": ("v3", "diffusers", 32, 20),
    "diffusers_motion_adapter_sdxl_beta": ("sdxl", "diffusers", 32, 15),
}


def shapes_of(manifest: str) -> dict[str, list[int]]:
    with gzip.open(MANIFESTS / f"animatediff_{manifest}.json.gz", "rt") as file:
        found = json.load(file)
    return found.get("tensors") or found["shapes"]


def on_meta(shapes: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        return {k: torch.empty(shape) for k, shape in shapes.items()}


# --------------------------------------------------------------------------------------------------
# Published files at full size.


@pytest.mark.parametrize("manifest", PUBLISHED)
def test_every_key_of_a_published_file_is_used_and_none_is_missing(manifest):
    variant, spelling, positions, modules = PUBLISHED[manifest]
    shapes = shapes_of(manifest)
    config = detect(shapes)
    assert (config.variant, config.spelling) == (variant, spelling)
    assert config.layout == (SDXL if variant in ("sdxl", "hotshot xl") else SD1)
    assert (config.positions, len(config.sites)) == (positions, modules)
    state = on_meta(shapes)
    found = keys.split(state, config)
    layers = animatediff.assemble(state, config)
    assert not found.left_out
    back = animatediff.to_original(layers, config)
    assert {k: list(v.shape) for k, v in back.items()} == shapes
    again = TemporalLayersSpec.from_dict(json.loads(json.dumps(layers.spec.as_dict())))
    assert again == layers.spec


@pytest.mark.parametrize("manifest", ["mm_sd_v15_v2", "hotshotxl", "diffusers_motion_adapter_v1"])
def test_a_file_that_lacks_a_key_or_has_another_is_refused(manifest):
    state = on_meta(shapes_of(manifest))
    config = detect(shapes_of(manifest))
    gone = next(key for key in state if key.endswith("to_v.weight"))
    with pytest.raises(CheckpointError, match=r"lacks keys \(1\)"):
        animatediff.assemble({k: v for k, v in state.items() if k != gone}, config)
    with pytest.raises(CheckpointError, match=r"has unknown keys \(1\): down_blocks.0.other"):
        animatediff.assemble(state | {"down_blocks.0.other": state[gone]}, config)


def test_every_key_of_a_published_motion_lora_is_used():
    shapes = shapes_of("mm_sd_v15_v2")
    spec = detect(shapes).layers_spec()
    lora = MotionLora(on_meta(shapes_of("v2_motion_lora")), 0.5)
    with_update, updates = with_loras(spec, [lora])
    assert len(updates) == len(lora.tensors) == 336
    with torch.device("meta"):
        own = TemporalLayers(with_update).state_dict()
    assert {k: own[k].shape for k in updates} == {k: v.shape for k, v in updates.items()}
    assert len(own) == len(updates) + 588 - 42  # without the tables


def test_every_key_of_the_published_domain_adapter_is_used():
    lora = on_meta(shapes_of("v3_sd15_adapter"))
    unet = build_unet(dict(
        block_out_channels=SD1.channels, cross_attention_dim=768, attention_head_dim=8,
    ))  # fmt: skip
    updates = parse(lora, unet.state_dict())
    assert 2 * len(updates) == len(lora) == 256


# --------------------------------------------------------------------------------------------------
# Toy files.


@pytest.mark.parametrize("spelling", ["its own", "diffusers"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_taking_apart_and_putting_together_changes_nothing(variant, spelling):
    # diffusers has no Hotshot-XL.
    as_published = spelling == "its own" or variant == "hotshot xl"
    changes = {} if as_published else {"spelling": spelling}
    config = toy_config(variant, **changes)
    state = toy_state(config)
    again = animatediff.assemble(state, config)
    back = animatediff.to_original(again, config)
    assert back.keys() == state.keys() and all(torch.equal(back[k], state[k]) for k in back)
    found = detect({k: tuple(v.shape) for k, v in state.items()}, norm_groups=8, heads=4)
    # Two levels are no published layout, so XL's beta is taken for v3; depths cannot be detected.
    named = "v3" if variant == "sdxl" else variant
    assert replace(found, layout=config.layout) == replace(config, variant=named)


@pytest.mark.parametrize("lacking", ["way_down", "way_up"])
def test_modules_of_one_way_through_the_network_alone_are_recognised(lacking):
    config = toy_config("v3", **{lacking: False})
    state = toy_state(config)
    found = detect({k: tuple(v.shape) for k, v in state.items()}, norm_groups=8, heads=4)
    assert found.layout.channels == config.layout.channels
    assert found.layout.layers == config.layout.layers
    assert replace(found, layout=config.layout) == config
    back = animatediff.to_original(animatediff.assemble(state, config), config)
    assert back.keys() == state.keys() and all(torch.equal(back[k], state[k]) for k in back)


def packings(state, folder: Path):
    """Writes the same modules in every packing that circulates."""
    image = {"conv_in.weight": torch.zeros(32, 4, 3, 3), "down_blocks.0.resnets.0.norm1.bias": (
        torch.zeros(32))}  # fmt: skip
    prefixed = {f"module.{k}": v for k, v in state.items()}
    torch.save(state, folder / "bare.ckpt")
    told = {"animatediff_config": {"v": [1, None]}, "global_step": 5}
    torch.save({"state_dict": state, **told}, folder / "wrapped.ckpt")
    torch.save({**state, **told}, folder / "beside.ckpt")
    torch.save({"epoch": 1, "state_dict": prefixed | image}, folder / "training.ckpt")
    save_file({k: v.contiguous() for k, v in state.items()}, folder / "bare.safetensors")
    deep = {f"model.diffusion_model.{k}": v.contiguous() for k, v in state.items()}
    save_file(deep, folder / "deep.safetensors")
    save_file({k: v.contiguous() for k, v in (state | image).items()}, folder / "whole.safetensors")
    return sorted(folder.iterdir())


@pytest.mark.parametrize("variant", ["v2", "hotshot xl", "animatelcm i2v"])
def test_all_packings_give_the_same_layers(variant, tmp_path):
    config = toy_config(variant, heads=8, norm_groups=32)
    layers = toy_layers(config)
    state = animatediff.to_original(layers, config)
    found = packings(state, tmp_path)
    assert len(found) == 7
    for path in found:
        loaded = animatediff.load_layers(path, layout=config.layout)
        assert same(loaded, layers), path.name
        assert loaded.spec == layers.spec, path.name


def test_the_folder_that_diffusers_writes_gives_its_numbers(tmp_path):
    adapter = MotionAdapter(
        block_out_channels=(32, 64), motion_layers_per_block=1, motion_mid_block_layers_per_block=1,
        motion_num_attention_heads=2, motion_norm_num_groups=16, motion_max_seq_length=20,
    )  # fmt: skip
    fill(adapter).save_pretrained(tmp_path)
    layout = layout_of(toy_unet().config)
    layers = animatediff.load_layers(tmp_path, layout=layout)
    spec = layers.spec.layers["mid.attn.0"]
    assert (spec.heads, spec.norm_groups, spec.positions) == (2, 16, 20)
    (weights,) = tmp_path.glob("*.safetensors")
    assert same(animatediff.load_layers(weights, layout=layout), layers)
    module, own = adapter.down_blocks[1].motion_modules[0], layers.at("down.1.attn.0")
    # One frame: diffusers takes statistics of the norm over all frames, the originals per frame.
    h = normal(1, 64, 4, 4)
    with torch.no_grad():
        expected = module(h, num_frames=1)
        torch.testing.assert_close(own(h, 1), expected, atol=1e-4, rtol=1e-4)


def test_positions_of_its_own_are_refused_and_rounded_ones_are_not():
    config = toy_config("v3")
    state = toy_state(config)
    table = next(key for key in state if key.endswith(".pe"))
    rounded = {k: v.half() for k, v in state.items()}
    assert set(animatediff.assemble(rounded, config).state_dict()) == set(
        toy_layers(config).state_dict()
    )
    with pytest.raises(CheckpointError, match="has positions of its own"):
        animatediff.assemble(state | {table: state[table] * 0.5}, config)
    with pytest.raises(CheckpointError, match=r"has 32 positions, but .* \(1, 24, "):
        animatediff.assemble(state | {table: state[table][:, :24]}, config)


def test_sinusoids_are_interleaved():
    expected = [[0, 1, 0, 1], [0.841471, 0.540302, 0.0099998, 0.99995]]
    torch.testing.assert_close(interleaved_sinusoid(torch.arange(2), 4), torch.tensor(expected))


def test_another_file_is_refused_with_what_it_is(tmp_path):
    save_file({"lora_unet_x.lora_up.weight": torch.zeros(2, 2)}, tmp_path / "a.safetensors")
    with pytest.raises(
        CheckpointError, match="a.safetensors holds no motion modules: it is a LoRA"
    ):
        animatediff.load_layers(tmp_path / "a.safetensors")


@pytest.mark.parametrize("packing", ["training.ckpt", "deep.safetensors"])
def test_a_file_is_converted_to_plain_names_without_the_image_network(packing, tmp_path):
    config = toy_config("v2", heads=8, norm_groups=32, layout=TWO_LEVELS)
    state = toy_state(config)
    packings(state, tmp_path)
    known = identify(tmp_path / packing)
    assert known.state.keys() == state.keys()
    known.write(tmp_path / "plain.safetensors")
    layers = load_temporal_layers(tmp_path / "plain.safetensors")
    assert same(layers, animatediff.assemble(state, config))
    assert layers.spec.trained.family == "animatediff v2"
    assert family_of(tmp_path / "plain.safetensors").name == "animatediff"


@pytest.mark.parametrize(
    "trained, sampler, first",
    [("animatediff v3", "ddim", 801), ("animatediff animatelcm", "lcm", 999)],
)
def test_noise_levels_as_published(trained, sampler, first):
    plan = published_plan(trained, sampler, 5)
    assert plan.schedule.timestep(plan.sigmas[:-1])[0] == first and plan.sigmas[-1] == 0
    betas = torch.linspace(0.00085, 0.012, 1000, dtype=torch.float64)
    torch.testing.assert_close(plan.schedule.betas, betas, atol=1e-9, rtol=0)
    with pytest.raises(ValueError, match=f"{trained} was published with {sampler}, not with heun"):
        published_plan(trained, "heun", 5)


def test_more_steps_than_a_consistency_model_knows_are_refused():
    with pytest.raises(ValueError, match="1 to 100 steps, but 101"):
        lcm_timesteps(101)


def test_timesteps_of_a_consistency_model_are_rounded_down_as_the_original_does():
    """Its floating-point positions can fall just below an integer, such as 100 of 200."""
    assert lcm_timesteps(4).tolist() == [999, 749, 499, 249]
    many = lcm_timesteps(194, distilled=200).tolist()
    assert 504 in many and 499 not in many


# --------------------------------------------------------------------------------------------------
# In an image model.


@pytest.mark.parametrize("variant", [v for v in VARIANTS if not VARIANTS[v].pooled_norms])
def test_untrained_and_switched_off_layers_are_the_image_model_bit_for_bit(variant):
    config = toy_config(variant)
    image = VideoUNet(toy_unet_of_one_seed(), [])
    with torch.no_grad():
        alone = image(VIDEO[:, :4], torch.tensor(500), Conditions(text=TEXT))
    assert torch.equal(forward(TemporalLayers(config.layers_spec()).eval()), alone)
    assert torch.equal(forward(toy_layers(config), strength=Strength(overall=0.0)), alone)
    assert not torch.allclose(forward(toy_layers(config)), alone, atol=1e-3)


@pytest.mark.parametrize("variant", VARIANTS)
def test_only_v1_and_its_kin_pool_the_norms_of_the_image_model(variant):
    """Untrained modules add nothing: a frame depends on the others only through the norms."""
    layers = TemporalLayers(toy_config(variant).layers_spec()).eval()
    alone, together = forward(layers, 1), forward(layers, 4)
    pooled = not torch.allclose(alone[:, :1], together[:, :1], atol=1e-5)
    assert pooled == (variant in ("v1", "pia", "hotshot xl"))


@pytest.mark.parametrize("variant", ["v1", "v2"])
def test_a_configuration_may_pool_norms_otherwise_than_its_variant(variant):
    config = toy_config(variant)
    for pooled in (False, True):
        layers = TemporalLayers(replace(config, pooled_norms=pooled).layers_spec()).eval()
        alone, together = forward(layers, 1), forward(layers, 4)
        assert pooled != torch.allclose(alone[:, :1], together[:, :1], atol=1e-5)


def test_a_single_frame_passes_hotshot_xl_and_no_other():
    for variant, passes in (("hotshot xl", True), ("v3", False)):
        layers = toy_layers(toy_config(variant))
        image = forward(layers, 1, Strength(overall=0.0))
        assert torch.allclose(forward(layers, 1), image, atol=1e-5) == passes


@pytest.mark.parametrize("variant, most", [("v1", 24), ("v3", 32), ("animatelcm", 64)])
def test_more_frames_than_positions_are_refused(variant, most):
    layers = toy_layers(toy_config(variant))
    with pytest.raises(ValueError, match=f"at most {most} frames together, but {most + 1}"):
        forward(layers, most + 1)


def test_frames_are_told_apart_by_their_place_or_the_time_given():
    module = toy_layers(toy_config("v3")).at("down.0.attn.0")
    h = normal(4, 32, 2, 2)
    told = LayerInputs(times=torch.tensor([0, 1, 2, 3]))
    late = LayerInputs(times=torch.tensor([4, 5, 6, 7]))
    assert torch.equal(module(h, 4, told), module(h, 4))
    assert not torch.allclose(module(h, 4, late), module(h, 4), atol=1e-4)


def test_the_depth_of_transformers_matters_to_layers_inside_of_them_alone():
    layout = toy_config("v3").layout
    deeper = replace(layout, depths=(3, 1), mid_depth=2)
    wider = replace(layout, channels=(64, 64))
    modules = toy_config("v3").layers_spec()
    assert modules.fits(layout) and modules.fits(deeper) and not modules.fits(wider)
    inside = replace(modules, layers={"down.0.attn.0.block.0": BlockAttentionSpec(heads=4)})
    assert inside.fits(layout) and not inside.fits(deeper)


def test_betas_come_with_the_layers_and_go_with_them():
    image = DiffusionModel(
        network=VideoUNet(toy_unet_of_one_seed(), []),
        preconditioning=discrete("eps", scaled_linear()),
        factor=8,
        latent_scale=0.18215,
    )
    before = image.schedule.betas
    for variant, roots, last in (("v3", 1, 0.012), ("sdxl", 2, 0.020), ("hotshot xl", 2, 0.012)):
        model = image.with_layers(toy_layers(toy_config(variant)))
        ends = torch.tensor([0.00085, last], dtype=torch.float64) ** (1 / roots)
        expected = torch.linspace(*ends.tolist(), 1000, dtype=torch.float64) ** roots
        torch.testing.assert_close(model.schedule.betas, expected, atol=1e-9, rtol=0)
        assert torch.equal(model.ejected().schedule.betas, before)
        assert torch.equal(model.with_schedule(image.schedule).schedule.betas, before)


def test_an_image_steers_pias_and_animatelcms_layers():
    for variant in ("pia", "animatelcm i2v"):
        layers = toy_layers(toy_config(variant))
        image = given_frames(normal(2, 1, 4, 8, 8, seed=8), [1], 4)
        plain, told = forward(layers), forward(layers, context=image)
        assert not torch.allclose(plain, told, atol=1e-3)
        assert torch.equal(forward(layers, context=image.dropped()), plain)


def test_pias_first_convolution_takes_the_place_of_the_image_networks_where_asked():
    layers, image = toy_layers(toy_config("pia")), toy_unet_of_one_seed()
    conv = layers.at("in").own
    swapped = toy_unet_of_one_seed()
    swapped.conv_in.load_state_dict(conv.state_dict())

    def run(unet, **how):
        network = VideoUNet(unet, []).with_sets([Injection(layers, **how)])
        with torch.no_grad():
            return network(VIDEO[:, :4], torch.tensor(500), Conditions(text=TEXT))

    wanted, own = run(swapped), run(image, own_input=True)
    torch.testing.assert_close(own, wanted, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(own, run(image), atol=1e-2)
    off = run(image, own_input=True, strength=Strength(overall=0.0))
    with torch.no_grad():
        alone = VideoUNet(image, [])(VIDEO[:, :4], torch.tensor(500), Conditions(text=TEXT))
    assert torch.equal(off, alone)
    with pytest.raises(ValueError, match="takes 4 channels, but the model's input has 9: keep"):
        layers.at("in")(VIDEO[0, :4], 4, LayerInputs(latents=normal(4, 9, 8, 8, seed=1)))
