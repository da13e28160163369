"""Motion LoRAs: beside the modules they act as if merged, in every spelling, alone and added up."""

from __future__ import annotations

import json
import re

import pytest
import torch
from animatediff_toys import forward, toy_config, toy_lora, toy_state
from model_toys import normal
from videoldm.core.diffusion.curves import Curve, per_frame
from videoldm.core.families import animatediff
from videoldm.core.families.animatediff_lora import MotionLora, beside, load_lora
from videoldm.core.networks.temporal_layers import TemporalLayers
from videoldm.core.networks.temporal_layers_spec import TemporalLayersSpec
from videoldm.core.networks.weight_updates import Frames, Scheduled, updated
from videoldm.core.weights.checkpoints import CheckpointError


def spelt(lora: dict[str, torch.Tensor], how: str) -> dict[str, torch.Tensor]:
    if how == "published":
        return lora
    if how == "diffusers":
        numbers = {f".attention_blocks.{k}": f".attn{k + 1}" for k in range(2)}
        found = {f"unet.{k.replace('.temporal_transformer', '')}": v for k, v in lora.items()}
        for old, new in numbers.items():
            found = {k.replace(old, new): v for k, v in found.items()}
        return found
    found = {}
    for key, tensor in lora.items():
        path, half = re.fullmatch(r"(.*)_lora\.(down|up)\.weight", key).groups()
        path = path.replace(".processor", "").removesuffix("_lora")
        path = f"{path}.0" if path.endswith("to_out") else path
        name = f"lora_unet_{path.replace('.', '_')}"
        found[f"{name}.lora_{half}.weight"] = tensor
        found[f"{name}.alpha"] = torch.tensor(1.0)
    return found


def merged(state, config, lora, strength):
    """The update added to the weights, as the original does."""
    state = dict(state)
    for key in lora:
        if key.endswith("_lora.down.weight"):
            path = key.removesuffix("_lora.down.weight").replace("processor.", "")
            path = f"{path}.0.weight" if path.endswith("to_out") else f"{path}.weight"
            up = lora[key.replace(".down.", ".up.")]
            state[path] = state[path] + strength * up @ lora[key]
    return animatediff.assemble(state, config)


@pytest.mark.parametrize("how, scale", [("published", 1), ("diffusers", 1), ("kohya", 0.5)])
def test_a_motion_lora_is_as_if_it_were_merged_however_it_is_spelt(how, scale, tmp_path):
    config = toy_config("v2")
    state, lora = toy_state(config), toy_lora(config)
    torch.save({"state_dict": spelt(lora, how)}, tmp_path / "lora.ckpt")
    loaded = load_lora(tmp_path / "lora.ckpt", 0.8)
    beside = animatediff.assemble(state, config, loras=[loaded])
    expected = forward(merged(state, config, lora, 0.8 * scale))
    torch.testing.assert_close(forward(beside), expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(forward(animatediff.assemble(state, config)), expected, atol=1e-3)


def test_motion_loras_add_up_and_one_of_strength_0_changes_nothing():
    config = toy_config("v3")
    state, one, two = toy_state(config), toy_lora(config), toy_lora(config, rank=3, seed=900)
    both = [MotionLora(one, 0.5), MotionLora(two, -0.7)]
    layers = animatediff.assemble(state, config, loras=both)
    once = merged(state, config, one, 0.5)
    twice = merged(animatediff.to_original(once, config), config, two, -0.7)
    torch.testing.assert_close(forward(layers), forward(twice), atol=1e-5, rtol=1e-5)
    off = animatediff.assemble(state, config, loras=[MotionLora(one, 0.0)])
    assert torch.equal(forward(off), forward(animatediff.assemble(state, config)))
    spec = TemporalLayersSpec.from_dict(json.loads(json.dumps(layers.spec.as_dict())))
    assert spec == layers.spec
    again = TemporalLayers(spec)
    again.load_state_dict(layers.state_dict())
    assert torch.equal(forward(again.eval()), forward(layers))


def test_a_motion_lora_for_the_middle_does_not_fit_v3():
    with_middle, without = toy_config("v2"), toy_config("v3")
    lora = MotionLora(toy_lora(with_middle), name="pan.ckpt")
    with pytest.raises(CheckpointError, match=r"pan.ckpt changes unknown keys \(8\): mid_block"):
        animatediff.assemble(toy_state(without), without, loras=[lora])


# --------------------------------------------------------------------------------------------------
# Beside layers that are there already, at strengths of their own.


def scheduled(layers, lora, curve, name="the motion LoRA"):
    return layers.with_updates([Scheduled(beside(layers, MotionLora(lora, name=name)), curve)])


@pytest.mark.parametrize("variant", ["v1", "v2", "v3"])
def test_beside_layers_of_constant_strength_it_is_as_if_it_were_merged(variant):
    config = toy_config(variant)
    state, one, two = toy_state(config), toy_lora(config), toy_lora(config, rank=3, seed=900)
    layers = animatediff.assemble(state, config)
    plain = forward(layers)
    both = scheduled(scheduled(layers, one, Curve(0.5)), two, Curve(-0.7))
    once = merged(state, config, one, 0.5)
    twice = merged(animatediff.to_original(once, config), config, two, -0.7)
    torch.testing.assert_close(forward(both), forward(twice), atol=1e-5, rtol=1e-5)
    nearly = scheduled(layers, one, per_frame([0.5, 0.5 + 1e-7]))
    torch.testing.assert_close(forward(nearly), forward(once), atol=1e-5, rtol=1e-5)
    assert torch.equal(forward(scheduled(layers, one, Curve(0.0))), plain)
    assert torch.equal(forward(layers), plain)
    assert not torch.allclose(forward(once), plain, atol=1e-3)


def test_frames_of_strength_0_project_as_without_it():
    """With a LoRA of the queries, which concern their own frame, the other frames do not change."""
    config = toy_config("v2")
    lora = {k: v for k, v in toy_lora(config).items() if "down_blocks.0" in k and "to_q_lora" in k}
    layers = animatediff.assemble(toy_state(config), config)
    found = scheduled(layers, lora, per_frame([0.0, 0.0, 1.0, 0.0]))
    module, h = found.at("down.0.attn.0"), normal(4, 32, 8, 8, seed=2)
    with torch.no_grad():
        plain = module(h, 4)
        with updated(found, found.updates, Frames(range(4), 1, None)):
            change = (module(h, 4) - plain).flatten(1).abs().amax(1)
    # The second attention of the module sees the frames of the first.
    assert change.max() > 1e-4
    first = layers.at("down.0.attn.0").blocks[0].attentions[0]
    tokens = normal(4, 6, 32, seed=3)
    with torch.no_grad():
        plain = first(tokens, 4, plus=tokens)
        with updated(found, found.updates, Frames(range(4), 1, None)):
            change = (first(tokens, 4, plus=tokens) - plain).flatten(1).abs().amax(1)
    assert change[2] > 1e-4
    assert change[[0, 1, 3]].max() < 1e-6


def test_one_for_other_layers_is_refused_beside_them():
    lora = toy_lora(toy_config("v2"))
    layers = animatediff.assemble(toy_state(toy_config("v3")), toy_config("v3"))
    with pytest.raises(CheckpointError, match="unknown"):
        beside(layers, MotionLora(lora))
