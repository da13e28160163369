"""Temporal layers in full-size Stable Diffusion 1.5, loaded by ComfyUI, give the same latents as in
the standalone host."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import full_size_files
import pytest
import torch
from node_inputs import strategy
from safetensors.torch import load_file
from standalone_nodes import standalone_nodes

pytestmark = [pytest.mark.slow, pytest.mark.full_size]
FRAMES, SIDE, STEPS = 8, 64, 3
"""SIDE is in pixels: 8 latent positions."""
RELATIVE = 1e-3
GIGABYTES = 12
NAMES = SimpleNamespace(checkpoint="sd15.safetensors", layers="sd15_layers.safetensors",
                        lora="sd15_lora.safetensors")  # fmt: skip


@pytest.fixture(scope="module")
def files(comfyui):
    """Files of random weights in the server's folders, removed afterwards."""
    full_size_files.require_memory(GIGABYTES)
    models = comfyui.base / "models"
    written = {
        models / "checkpoints" / NAMES.checkpoint: partial(
            full_size_files.write_published, "sd15_single_file"
        ),
        models / "videoldm" / NAMES.layers: full_size_files.write_layers,
        models / "loras" / NAMES.lora: full_size_files.write_lora,
    }
    for path, write in written.items():
        path.parent.mkdir(exist_ok=True)
        write(path)
    yield models
    comfyui.clear()
    for path in written:
        path.unlink()


@pytest.fixture(scope="module")
def standalone(comfyui, files):
    with standalone_nodes(comfyui.base) as call:
        yield call


def graph(*, lora: bool = False) -> dict:
    """A prompt that injects our layers between ComfyUI's nodes and saves the latents."""
    nodes = {
        "1": ("CheckpointLoaderSimple", {"ckpt_name": NAMES.checkpoint}),
        "2": ("VideoLDM_LoadTemporalLayers", {"layers": NAMES.layers}),
        "3": ("LoraLoader", {"model": ["1", 0], "clip": ["1", 1], "lora_name": NAMES.lora,
                             "strength_model": 0.8, "strength_clip": 0.6}),
        "4": ("VideoLDM_InjectTemporalLayers", {
            "model": ["3" if lora else "1", 0], "layers": ["2", 0], "strength": 1.0,
            "attention_strength": 1.0, "convolution_strength": 1.0, "sites": ""}),
        "5": ("CLIPTextEncode", {"clip": ["3" if lora else "1", 1], "text": "a (red:1.2) car"}),
        "6": ("CLIPTextEncode", {"clip": ["3" if lora else "1", 1], "text": ""}),
        "7": ("EmptyLatentImage", {"width": SIDE, "height": SIDE, "batch_size": FRAMES}),
        "8": ("KSampler", {
            "model": ["4", 0], "positive": ["5", 0], "negative": ["6", 0],
            "latent_image": ["7", 0], "seed": 3, "steps": STEPS, "cfg": 4.0,
            "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}),
        "9": ("SaveLatent", {"samples": ["8", 0], "filename_prefix": "latents/sd15"}),
    }  # fmt: skip
    if not lora:
        del nodes["3"]
    return {key: {"class_type": kind, "inputs": inputs} for key, (kind, inputs) in nodes.items()}


def latents(comfyui, prompt: dict) -> torch.Tensor:
    history = comfyui.run(comfyui.filled(prompt), within=7200)
    saved = history["outputs"]["9"]["latents"][0]
    path = comfyui.base / saved["type"] / saved["subfolder"] / saved["filename"]
    return load_file(path)["latent_tensor"].float()


def prepared(call, *, lora: bool):
    """The model and prompts of `graph` in the standalone host."""
    model, clip, _ = call("CheckpointLoaderSimple", ckpt_name=NAMES.checkpoint)
    if lora:
        model, clip = call("LoraLoader", model=model, clip=clip, lora_name=NAMES.lora,
                           strength_model=0.8, strength_clip=0.6)  # fmt: skip
    (layers,) = call("VideoLDM_LoadTemporalLayers", layers=NAMES.layers)
    (model,) = call("VideoLDM_InjectTemporalLayers", model=model, layers=layers)
    positive, negative = (
        call("CLIPTextEncode", clip=clip, text=text)[0] for text in ("a (red:1.2) car", "")
    )
    return {"model": model, "positive": positive, "negative": negative}


def ksampled(call, inputs: dict) -> torch.Tensor:
    (empty,) = call("EmptyLatentImage", width=SIDE, height=SIDE, batch_size=FRAMES)
    (latent,) = call("KSampler", **inputs, latent_image=empty, seed=3, steps=STEPS, cfg=4.0,
                     sampler_name="euler", scheduler="simple")  # fmt: skip
    return latent["samples"]


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest difference, relative to the standard deviation of `b`."""
    found = float((a - b).abs().max() / b.std())
    print(f"latents {list(a.shape)}: relative distance {found:.2e}")
    return found


@pytest.mark.parametrize("lora", [False, True], ids=["plain", "with a LoRA"])
def test_core_ksampler_agrees_with_the_standalone_host(comfyui, standalone, lora):
    there = latents(comfyui, graph(lora=lora))
    here = ksampled(standalone, prepared(standalone, lora=lora))
    assert bool(there.isfinite().all())
    assert distance(there, here) <= RELATIVE


def test_our_sampler_agrees_with_the_standalone_host(comfyui, standalone):
    settings = {
        "width": SIDE, "height": SIDE, "frames": FRAMES, "steps": STEPS, "cfg": 4.0, "seed": 3,
        "sampler_name": "dpmpp_2m", "schedule": "trailing", "guidance_rescale": 0.7, **strategy(),
    }  # fmt: skip
    prompt = graph()
    wires = {key: prompt["8"]["inputs"][key] for key in ("model", "positive", "negative")}
    prompt["8"] = {"class_type": "VideoLDM_VideoSampler", "inputs": wires | settings}
    inputs = prepared(standalone, lora=False) | settings
    (latent,) = standalone("VideoLDM_VideoSampler", **inputs)
    assert distance(latents(comfyui, prompt), latent["samples"]) <= RELATIVE
