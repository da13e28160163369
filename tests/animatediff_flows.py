"""The AnimateDiff workflows at toy size, with random weights in place of the published files."""

from __future__ import annotations

from pathlib import Path

import torch
from animatediff_toys import toy_config, toy_state
from diffusers import ControlNetModel
from model_toys import fill
from safetensors.torch import save_file
from steering_toys import motion_config, toy_file
from templates import ROOT, read
from torch import nn
from toy_family import TOY
from videoldm.core.families import animatediff_sparse
from videoldm.core.networks.sites import UNetLayout, layout_of
from videoldm.core.networks.sparse_control import SparseControlNet
from videoldm.core.networks.temporal_layers import TemporalLayers

LAYOUT = UNetLayout(channels=(32, 32), layers=1, depths=(0, 1))
"""The layout of the toy family's image model."""
MODULES = {
    "mm_sd_v15_v2.ckpt": "v2", "v3_sd15_mm.ckpt": "v3", "AnimateLCM_sd15_t2v.ckpt": "animatelcm",
}  # fmt: skip
SPARSE = {"v3_sd15_sparsectrl_rgb.ckpt": "rgb"}
FLOWS = (
    "animatediff_text_to_video", "personalised_text_to_video", "animatediff_image_to_video",
    "animatediff_controlnet", "animatediff_long", "animatediff_high_resolution",
)  # fmt: skip
SAMPLERS = ("KSampler", "VideoLDM_VideoSampler")
SMALL = {"width": 32, "height": 32, "batch_size": 4, "steps": 2, "count": 4, "frames": 4}
SEGMENTS = '[{"prompt": "a red circle", "frames": 6}, {"prompt": "a star", "frames": 4}]'


def written(state: dict, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in state.items()}, path)


def sparse_state(latents: bool) -> dict[str, torch.Tensor]:
    encoder = ControlNetModel(**control_config(4 + latents))
    if latents:
        encoder.controlnet_cond_embedding = nn.Conv2d(5, 32, 3, padding=1)
    config = motion_config(layout_of(encoder.config))
    layers = TemporalLayers(config.layers_spec())
    network = SparseControlNet(fill(encoder, 3), fill(layers, 4), takes_latents=latents)
    return animatediff_sparse.to_original(network, config)


def control_config(channels: int = 3) -> dict:
    """The config of a ControlNet for the toy family."""
    return dict(
        block_out_channels=(32, 32), down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        layers_per_block=1, cross_attention_dim=TOY["text_width"], attention_head_dim=8,
        norm_num_groups=32, conditioning_channels=channels,
    )  # fmt: skip


def write_toys(models: Path) -> None:
    """Write AnimateDiff files of every kind for the toy family into models folders."""
    torch.manual_seed(0)
    for variant in ("v1", "v2", "v3", "animatelcm", "pia", "animatelcm i2v"):
        config = toy_config(variant, layout=LAYOUT, heads=8, norm_groups=32)
        written(toy_state(config), models / "videoldm" / "steer" / f"{variant}.safetensors")
    written(toy_file((32, 32)), models / "videoldm" / "steer" / "camera.safetensors")
    for name, latents in (("rgb", True), ("scribble", False)):
        written(sparse_state(latents), models / "controlnet" / "steer" / f"{name}.safetensors")


def toy_flow(name: str, image_model: str) -> dict:
    """A workflow in API format with toy models and a small, short video."""
    prompt = read(ROOT / "workflows" / "api" / f"{name}.json")
    prompt = _without_loras(prompt)
    for node in prompt.values():
        inputs = node["inputs"]
        for key in inputs.keys() & SMALL.keys():
            inputs[key] = SMALL[key] if not isinstance(inputs[key], list) else inputs[key]
        if node["class_type"] == "CheckpointLoaderSimple":
            node["class_type"], node["inputs"] = "VideoLDM_LoadImageModel", {"model": image_model}
        elif node["class_type"] == "VideoLDM_LoadTemporalLayers":
            inputs["layers"] = f"steer/{MODULES[inputs['layers']]}.safetensors"
        elif node["class_type"] == "VideoLDM_LoadSparseControl":
            inputs["control_net"] = f"steer/{SPARSE[inputs['control_net']]}.safetensors"
            inputs["frames"] = "0"
        elif node["class_type"] == "VideoLDM_LongHorizonSegments":
            inputs["segments"] = SEGMENTS
        if node["_meta"]["title"] == "First frame":
            inputs["count"] = 1
        if "strategy.window" in inputs:
            inputs |= {"strategy.window": 4, "strategy.overlap": 2}
        if inputs.get("strategy") == "video to video":
            inputs |= {"width": 48, "height": 48}
    return prompt


def _without_loras(prompt: dict) -> dict:
    """The prompt with its LoRA loaders bypassed: published LoRAs do not fit toy models."""
    past = {key: node for key, node in prompt.items() if node["class_type"] == "LoraLoader"}
    kept = {key: node for key, node in prompt.items() if key not in past}
    for node in kept.values():
        for name, value in node["inputs"].items():
            if isinstance(value, list) and value[0] in past:
                node["inputs"][name] = past[value[0]]["inputs"][("model", "clip")[value[1]]]
    return kept
