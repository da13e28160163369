"""Full-size Stable Diffusion 1.5, a ControlNet and motion modules, loaded part by part by ComfyUI's
nodes, give the same latents in both hosts."""

from __future__ import annotations

import full_size_files
import pytest
import torch
from diffusers import ControlNetModel
from safetensors.torch import load_file, save_file
from test_core_numbers import compared
from toy_prompts import distance, given
from videoldm.core.families import controlnets
from videoldm.core.families.stable_diffusion_keys import inverse, rename_all
from videoldm.core.families.stable_diffusion_specs import SPECS
from videoldm.core.networks.sites import SD1

pytestmark = [pytest.mark.slow, pytest.mark.full_size]
GIGABYTES = 14
SAME = 1e-4
"""Relative to the standard deviation of the values."""
WITH_MODULES = 1e-3
"""The same with motion modules: not measured, but what test_full_size.py allows temporal layers in
a model of this size."""
PREFIXES = {
    "diffusion_models": "model.diffusion_model.",
    "text_encoders": "cond_stage_model.transformer.",
    "vae": "first_stage_model.",
}


@pytest.fixture(scope="module")
def files(comfyui):
    """Files of random weights in the server's folders, removed afterwards."""
    full_size_files.require_memory(GIGABYTES)
    models, whole = comfyui.base / "models", comfyui.base / "whole.safetensors"
    full_size_files.write_published("sd15_single_file", whole)
    state = load_file(whole)
    written = [whole]
    for folder, prefix in PREFIXES.items():
        part = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        written.append(_written(models / folder / "sd15.safetensors", part))
    net = models / "controlnet" / "sd15.safetensors"
    written.append(_written(net, published_controlnet()))
    vectors = torch.randn(3, 768, generator=torch.Generator().manual_seed(6)) * 0.02
    written.append(models / "embeddings" / "sd15.pt")
    written[-1].parent.mkdir(exist_ok=True)
    torch.save({"string_to_param": {"*": vectors}}, written[-1])
    del state
    yield models
    comfyui.clear()
    for path in written:
        path.unlink()


def _written(path, state):
    path.parent.mkdir(exist_ok=True)
    save_file(state, path)
    return path


def published_controlnet() -> dict[str, torch.Tensor]:
    """Random weights under the keys of the published ControlNets for Stable Diffusion 1.5."""
    config = {k: v for k, v in SPECS["stable diffusion 1"].unet.items() if k != "up_block_types"}
    with torch.device("meta"):
        shapes = ControlNetModel.from_config(config).state_dict()
    table = inverse(controlnets.table(SD1))
    shapes = rename_all(shapes, table, "the ControlNet")
    generator = torch.Generator().manual_seed(7)
    return {f"control_model.{k}": full_size_files.random_weight(k, list(v.shape), generator)
            for k, v in shapes.items()}  # fmt: skip


def test_parts_loaded_by_core_nodes_give_the_same_latents(comfyui, files):
    hints = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(8))
    wired = {
        "1": ("UNETLoader", {"unet_name": "sd15.safetensors", "weight_dtype": "default"}),
        "2": ("CLIPLoader", {"clip_name": "sd15.safetensors", "type": "stable_diffusion"}),
        "3": ("CLIPSetLastLayer", {"clip": ["2", 0], "stop_at_clip_layer": -2}),
        "4": ("CLIPTextEncode", {"clip": ["3", 0], "text": "a (embedding:sd15:1.2), car"}),
        "5": ("CLIPTextEncode", {"clip": ["2", 0], "text": "embedding:sd15 grey"}),
        "6": ("VAELoader", {"vae_name": "sd15.safetensors"}),
        "7": given(comfyui, "hints", hints),
        "8": ("VAEDecode", {"samples": ["7", 0], "vae": ["6", 0]}),
        "9": ("ControlNetLoader", {"control_net_name": "sd15.safetensors"}),
        "10": ("ControlNetApplyAdvanced", {
            "positive": ["4", 0], "negative": ["5", 0], "control_net": ["9", 0],
            "image": ["8", 0], "strength": 0.8, "start_percent": 0.0, "end_percent": 0.6}),
        "11": ("EmptyLatentImage", {"width": 64, "height": 64, "batch_size": 2}),
        "12": ("KSampler", {
            "model": ["1", 0], "positive": ["10", 0], "negative": ["10", 1],
            "latent_image": ["11", 0], "seed": 3, "steps": 4, "cfg": 4.0,
            "sampler_name": "dpmpp_2m", "scheduler": "karras", "denoise": 1.0}),
        "13": ("SaveLatent", {"samples": ["12", 0], "filename_prefix": "latents/sd15"}),
        "14": ("KSampler", {
            "model": ["1", 0], "positive": ["4", 0], "negative": ["5", 0],
            "latent_image": ["11", 0], "seed": 3, "steps": 4, "cfg": 4.0,
            "sampler_name": "dpmpp_2m", "scheduler": "karras", "denoise": 1.0}),
        "15": ("SaveLatent", {"samples": ["14", 0], "filename_prefix": "latents/sd15"}),
    }  # fmt: skip
    prompt = {key: {"class_type": kind, "inputs": inputs} for key, (kind, inputs) in wired.items()}
    pairs = compared(comfyui, prompt)
    far = {key: distance(*pair) for key, pair in pairs.items()}
    print(far)
    assert distance(pairs["12"][0], pairs["14"][0]) > 0.01, "the ControlNet does something"
    assert max(far.values()) < SAME


@pytest.fixture(scope="module")
def motion(files):
    """A motion module and its adapter, a LoRA for the image model, under their published keys."""
    named = {
        "videoldm/v3_sd15_mm.ckpt": "animatediff_v3_sd15_mm",
        "loras/v3_adapter.safetensors": "animatediff_v3_sd15_adapter",
    }
    for name, manifest in named.items():
        (files / name).parent.mkdir(exist_ok=True)
        full_size_files.write_published(manifest, files / name, without=".pos_encoder.pe")
    yield
    for name in named:
        (files / name).unlink()


def test_motion_modules_with_a_lora_and_a_controlnet_give_the_same_latents(comfyui, files, motion):
    hints = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(8))
    wired = {
        "1": ("UNETLoader", {"unet_name": "sd15.safetensors", "weight_dtype": "default"}),
        "2": ("CLIPLoader", {"clip_name": "sd15.safetensors", "type": "stable_diffusion"}),
        "4": ("CLIPTextEncode", {"clip": ["2", 0], "text": "a red car"}),
        "5": ("CLIPTextEncode", {"clip": ["2", 0], "text": "grey"}),
        "6": ("VAELoader", {"vae_name": "sd15.safetensors"}),
        "7": given(comfyui, "hints", hints),
        "8": ("VAEDecode", {"samples": ["7", 0], "vae": ["6", 0]}),
        "9": ("ControlNetLoader", {"control_net_name": "sd15.safetensors"}),
        "10": ("ControlNetApplyAdvanced", {
            "positive": ["4", 0], "negative": ["5", 0], "control_net": ["9", 0],
            "image": ["8", 0], "strength": 0.8, "start_percent": 0.0, "end_percent": 1.0}),
        "11": ("EmptyLatentImage", {"width": 64, "height": 64, "batch_size": 2}),
        "16": ("LoraLoader", {"model": ["1", 0], "clip": ["2", 0], "strength_clip": 0.0,
                              "lora_name": "v3_adapter.safetensors", "strength_model": 0.7}),
        "17": ("VideoLDM_LoadTemporalLayers", {"layers": "v3_sd15_mm.ckpt"}),
        "18": ("VideoLDM_InjectTemporalLayers", {
            "model": ["16", 0], "layers": ["17", 0], "strength": 1.0, "attention_strength": 1.0,
            "convolution_strength": 1.0, "sites": ""}),
    }  # fmt: skip
    samplers = {"20": ("18", "10"), "22": ("1", "10")}
    for key, (model, prompts) in samplers.items():
        wired[key] = ("KSampler", {
            "model": [model, 0], "positive": [prompts, 0], "negative": [prompts, 1],
            "latent_image": ["11", 0], "seed": 3, "steps": 2, "cfg": 4.0,
            "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0})  # fmt: skip
        wired[f"{key}1"] = (
            "SaveLatent", {"samples": [key, 0], "filename_prefix": "latents/motion"}
        )  # fmt: skip
    prompt = {key: {"class_type": kind, "inputs": inputs} for key, (kind, inputs) in wired.items()}
    pairs = compared(comfyui, prompt)
    far = {key: distance(*pair) for key, pair in pairs.items()}
    print(far)
    assert distance(pairs["20"][0], pairs["22"][0]) > 0.01, "the modules do something"
    assert max(far.values()) < WITH_MODULES
