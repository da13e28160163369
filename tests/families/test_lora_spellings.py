"""Spellings of adapter files: all name the same module and give the same weight."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file
from test_lora import CONV, OUT, QUERY, RANK, factors, product, text_encoder, unet  # noqa: F401
from videoldm.core.families import lora
from videoldm.core.families.stable_diffusion_keys import inverse, rename, unet_table
from videoldm.core.networks.sites import layout_of
from videoldm.core.weights.checkpoints import CheckpointError

KOHYA = ".lora_down.weight", ".lora_up.weight"
PEFT = ".lora_A.weight", ".lora_B.weight"
NAMED = ".lora_A.default.weight", ".lora_B.default.weight"
OTHER = ".lora_A.my_style.weight", ".lora_B.my_style.weight"
BARE = ".lora_A", ".lora_B"
DOTTED = ".lora.down.weight", ".lora.up.weight"
LINEAR = ".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"
OLD = "_lora.down.weight", "_lora.up.weight"


def flat(path: str) -> str:
    return path.replace(".", "_")


def processor(path: str) -> str:
    return path.replace(".to_", ".processor.to_").removesuffix(".0")


def same(path: str) -> str:
    return path


# name: (prefix, how the path is written, endings of the two factors, names of ldm)
UNET = {
    "kohya": ("lora_unet_", flat, KOHYA, False),
    "kohya, ldm": ("lora_unet_", flat, KOHYA, True),
    "kohya, dotted": ("lora_unet_", same, KOHYA, False),
    "LyCORIS": ("lycoris_", flat, KOHYA, False),
    "ComfyUI": ("diffusion_model.", same, KOHYA, True),
    "ComfyUI, PEFT": ("diffusion_model.", same, PEFT, True),
    "ComfyUI, diffusers": ("diffusion_model.", same, KOHYA, False),
    "ldm": ("model.diffusion_model.", same, KOHYA, True),
    "diffusers": ("unet.", same, DOTTED, False),
    "diffusers, kohya's factors": ("unet.", same, KOHYA, False),
    "diffusers, linear": ("unet.", same, LINEAR, False),
    "diffusers, processors": ("unet.", processor, OLD, False),
    "PEFT in diffusers": ("unet.", same, PEFT, False),
    "PEFT in diffusers, named": ("unet.", same, NAMED, False),
    "PEFT": ("base_model.model.", same, PEFT, False),
    "PEFT, named": ("base_model.model.", same, NAMED, False),
    "PEFT, another name": ("base_model.model.", same, OTHER, False),
    "PEFT, unet.": ("base_model.model.unet.", same, PEFT, False),
    "PEFT below unet.": ("unet.base_model.model.", same, PEFT, False),
    "no prefix": ("", same, PEFT, False),
    "no prefix, parameters": ("", same, BARE, False),
    "no prefix, ldm": ("", same, KOHYA, True),
    "no prefix, processors": ("", processor, OLD, False),
}


@pytest.mark.parametrize("path", [QUERY, OUT])
@pytest.mark.parametrize("spelling", UNET)
def test_spellings_of_the_unet(unet, spelling, path):  # noqa: F811
    prefix, write, (down_end, up_end), ldm = UNET[spelling]
    state, table = unet.state_dict(), unet_table(layout_of(unet.config))
    name = prefix + write(rename(path, inverse(table)) if ldm else path)
    down, up = factors(state[f"{path}.weight"])
    merged = lora.merge(state, {name + down_end: down, name + up_end: up}, table=table)
    expected = state[f"{path}.weight"] + product(down, up)
    torch.testing.assert_close(merged[f"{path}.weight"], expected)


TEXT = "encoder.layers.1.mlp.fc1"
ATTENTION = "encoder.layers.0.self_attn.out_proj"
WORDS = {
    "kohya": ("lora_te_text_model_", flat, KOHYA),
    "kohya, two encoders": ("lora_te1_text_model_", flat, KOHYA),
    "kohya, no text_model": ("lora_te_", flat, KOHYA),
    "ComfyUI": ("text_encoders.clip_l.transformer.text_model.", same, KOHYA),
    "ComfyUI, SD 2": ("text_encoders.clip_h.transformer.text_model.", same, KOHYA),
    "ComfyUI, state": ("clip_l.transformer.text_model.", same, KOHYA),
    "diffusers": ("text_encoder.text_model.", same, LINEAR),
    "diffusers, kohya's factors": ("text_encoder.text_model.", same, KOHYA),
    "diffusers, no text_model": ("text_encoder.", same, PEFT),
    "PEFT in diffusers": ("text_encoder.text_model.", same, PEFT),
    "PEFT in diffusers, named": ("text_encoder.text_model.", same, NAMED),
    "PEFT": ("base_model.model.text_model.", same, PEFT),
    "PEFT below text_encoder.": ("text_encoder.base_model.model.text_model.", same, PEFT),
    "no prefix": ("text_model.", same, PEFT),
    "single file": ("cond_stage_model.transformer.text_model.", same, KOHYA),
}


@pytest.mark.parametrize("path", [TEXT, ATTENTION])
@pytest.mark.parametrize("spelling", WORDS)
def test_spellings_of_the_text_encoder(text_encoder, unet, spelling, path):  # noqa: F811
    prefix, write, (down_end, up_end) = WORDS[spelling]
    state = text_encoder.state_dict()
    own = next(key for key in state if key.endswith(f"{path}.weight"))
    down, up = factors(state[own])
    name = prefix + write(path)
    file = {name + down_end: down, name + up_end: up}
    merged = lora.merge(state, file, kind="text")
    torch.testing.assert_close(merged[own], state[own] + product(down, up))
    # The same file leaves the U-Net as it is, and is no error there.
    weights = unet.state_dict()
    assert all(value is weights[key] for key, value in lora.merge(weights, file).items())


# --------------------------------------------------------------------------------------------------
# PEFT's alpha, which is in the file's metadata.


def peft_file(path, state, config, where):
    down, up = factors(state[f"{where}.weight"])
    save_file({f"unet.{where}.lora_A.weight": down, f"unet.{where}.lora_B.weight": up}, path,
              metadata={"lora_adapter_metadata": config})  # fmt: skip
    return product(down, up)


@pytest.mark.parametrize("config, scale", [
    ({"unet.lora_alpha": 8}, 8 / RANK),
    ({"unet.lora_alpha": 8, "unet.use_rslora": True}, 8 / RANK**0.5),
    ({"unet.lora_alpha": 8, "unet.alpha_pattern": {"attn1.to_q": 5}}, 5 / RANK),
    ({"unet.lora_alpha": 8, "unet.alpha_pattern": {"attn2.to_q": 5}}, 8 / RANK),
    ({"unet.lora_alpha": 8, "unet.alpha_pattern": {"q": 5, f"^unet.{QUERY}": 6}}, 6 / RANK),
    ({"text_encoder.lora_alpha": 8}, 1.0),
])  # fmt: skip
def test_alphas_in_the_metadata(unet, tmp_path, config, scale):  # noqa: F811
    state = unet.state_dict()
    change = peft_file(tmp_path / "a.safetensors", state, json.dumps(config), QUERY)
    merged = lora.merge(state, lora.read_lora(tmp_path / "a.safetensors"))
    torch.testing.assert_close(merged[f"{QUERY}.weight"], state[f"{QUERY}.weight"] + scale * change)


@pytest.mark.parametrize("config, words", [
    ("{", "has metadata that is not JSON"),
    ("[]", "PEFT metadata that is not a table of settings"),
    ('{"unet.lora_alpha": "eight"}', "has the alpha 'eight' for unet"),
    ('{"unet.lora_alpha": 8, "unet.alpha_pattern": {"[": 5}}', "has the path pattern '\\['"),
    ('{"unet.lora_alpha": 8, "unet.alpha_pattern": 3}', "an alpha_pattern that is not a table"),
])  # fmt: skip
def test_broken_metadata(unet, tmp_path, config, words):  # noqa: F811
    peft_file(tmp_path / "a.safetensors", unet.state_dict(), config, QUERY)
    with pytest.raises(CheckpointError, match=words) as caught:
        lora.read_lora(tmp_path / "a.safetensors")
    assert str(caught.value).startswith("a.safetensors ") and "\n" not in str(caught.value)


def test_modules_that_the_model_lacks_are_counted_and_named(unet):  # noqa: F811
    file = {f"unet.{CONV}x.lora_A.weight": torch.ones(2, 3)}
    with pytest.raises(CheckpointError, match=rf"changes unknown keys \(1\): {CONV}x"):
        lora.merge(unet.state_dict(), file)
