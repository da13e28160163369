"""Prompts in API form for the toy family, and the latents that their runs save."""

from __future__ import annotations

import torch
from node_inputs import strategy
from safetensors.torch import load_file, save_file

MODEL, LAYERS = "toy/image_model.safetensors", "toy/text_to_video.safetensors"
FRAMES, SIDE = 6, 32
SETTINGS = {
    "width": SIDE, "height": SIDE, "frames": FRAMES, "steps": 3, "cfg": 3.0, "seed": 1,
    "sampler_name": "euler", "schedule": "trailing", "guidance_rescale": 0.0,
}  # fmt: skip
"""Settings of the Video Sampler, besides its strategy."""


def nodes(**extra: tuple[str, dict]) -> dict:
    """A video of the toy family, sampled by ComfyUI's KSampler (8) and the Video Sampler (9); plus
    `extra`, whose names are ids with the prefix n."""
    base = {
        "1": ("VideoLDM_LoadImageModel", {"model": MODEL}),
        "2": ("VideoLDM_LoadTemporalLayers", {"layers": LAYERS}),
        "3": inject(),
        "4": ("CLIPTextEncode", {"clip": ["1", 1], "text": "a red circle"}),
        "5": ("CLIPTextEncode", {"clip": ["1", 1], "text": ""}),
        "7": ("EmptyLatentImage", {"width": SIDE, "height": SIDE, "batch_size": FRAMES}),
        "8": ksampler("3"),
        "9": sampler("3"),
        "10": ("VideoLDM_LoadTemporalVAE", {"vae": "toy/temporal_decoder.safetensors"}),
    }
    extra = {name.lstrip("n"): value for name, value in extra.items()}
    return {key: {"class_type": kind, "inputs": inputs}
            for key, (kind, inputs) in {**base, **extra}.items()}  # fmt: skip


def inject(model: str = "1", layers: str = "2", strength: float = 1.0) -> tuple[str, dict]:
    return "VideoLDM_InjectTemporalLayers", {
        "model": [model, 0], "layers": [layers, 0], "strength": strength,
        "attention_strength": 1.0, "convolution_strength": 1.0, "sites": ""}  # fmt: skip


def ksampler(model: str, /, **changed) -> tuple[str, dict]:
    return "KSampler", {
        "model": [model, 0], "positive": ["4", 0], "negative": ["5", 0], "latent_image": ["7", 0],
        "seed": 1, "steps": 3, "cfg": 4.0, "sampler_name": "euler", "scheduler": "simple",
        "denoise": 1.0, **changed,
    }  # fmt: skip


def denoising(model: str, latent: str, /, **changed) -> tuple[str, dict]:
    """ComfyUI's advanced sampler, starting from a latent without adding noise."""
    return "KSamplerAdvanced", {
        "model": [model, 0], "positive": ["4", 0], "negative": ["5", 0],
        "latent_image": [latent, 0], "noise_seed": 1, "steps": 3, "cfg": 4.0,
        "sampler_name": "euler", "scheduler": "simple", "add_noise": "disable",
        "start_at_step": 0, "end_at_step": 3, "return_with_leftover_noise": "disable", **changed,
    }  # fmt: skip


def sampler(model: str, /, **changed) -> tuple[str, dict]:
    wires = {"model": [model, 0], "positive": ["4", 0], "negative": ["5", 0]}
    chosen = {} if "strategy" in changed else strategy()
    return "VideoLDM_VideoSampler", wires | SETTINGS | chosen | changed


def windows(model: str, length: int, overlap: int, dim: int = 0) -> tuple[str, dict]:
    """ComfyUI's context windows."""
    return "ContextWindowsManual", {
        "model": [model, 0], "context_length": length, "context_overlap": overlap,
        "context_schedule": "standard_static", "context_stride": 1, "closed_loop": False,
        "fuse_method": "flat", "dim": dim, "freenoise": True, "cond_retain_index_list": "",
        "split_conds_to_windows": False, "latent_retain_index_list": "",
        "causal_window_fix": False,
    }  # fmt: skip


def saved(samples: str) -> tuple[str, dict]:
    return "SaveLatent", {"samples": [samples, 0], "filename_prefix": "latents/toy"}


def latent(comfyui, history: dict, node: str) -> torch.Tensor:
    """The latents that a `saved` node wrote."""
    found = history["outputs"][node]["latents"][0]
    path = comfyui.base / found["type"] / found["subfolder"] / found["filename"]
    return load_file(path)["latent_tensor"].float()


def latents(comfyui, prompt: dict, *, within: float = 600.0) -> dict[str, torch.Tensor]:
    """The latents of all `saved` nodes of a prompt, by the node whose output they save."""
    savers = {key: one for key, one in prompt.items() if one["class_type"] == "SaveLatent"}
    history = comfyui.run(comfyui.filled(prompt), within=within)
    return {one["inputs"]["samples"][0]: latent(comfyui, history, key)
            for key, one in savers.items()}  # fmt: skip


def given(comfyui, name: str, samples: torch.Tensor) -> tuple[str, dict]:
    """A node that loads these latents, which are written to the input folder."""
    marked = {"latent_tensor": samples.contiguous(), "latent_format_version_0": torch.tensor([])}
    save_file(marked, comfyui.base / "input" / f"{name}.latent")
    return "LoadLatent", {"latent": f"{name}.latent"}


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest difference, relative to the standard deviation of `b`."""
    return float((a - b).abs().max() / b.std())
