"""Toy contents of the files of networks made for video, and the published workflows with them."""

from __future__ import annotations

import json
from pathlib import Path

from diffusers import AutoencoderKL
from factorised_toys import checkpoint
from model_toys import fill
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModel
from videoldm.core.families import lvdm, videocrafter
from videoldm.core.families.stable_diffusion_text import TextModel
from videoldm.core.families.video_parts import VideoParts
from videoldm.core.networks.image_resampler import ImageResampler, ResamplerConfig
from videoldm.core.text.clip_vocabulary import ClipTokenizer

WORKFLOWS = Path(__file__).parents[1] / "workflows"
SIDE, FRAMES = 64, 4
NETWORKS = {
    "lvdm_text_to_video": (lvdm, "text"),
    "videocrafter_text_to_video": (videocrafter, "videocrafter 1"),
    "videocrafter_image_to_video": (videocrafter, "videocrafter image"),
}
TEXT = CLIPTextConfig(hidden_size=24, intermediate_size=24, num_hidden_layers=1,
                      num_attention_heads=2)  # fmt: skip
VISION = CLIPVisionConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                          num_attention_heads=2, image_size=28, patch_size=14)  # fmt: skip
RESAMPLER = ResamplerConfig(width=16, depth=1, heads=2, head_width=8, queries=3, embedding=16,
                            out=12, expansion=2)  # fmt: skip


def parts(name: str) -> VideoParts:
    """A toy of the network that a workflow loads, with all other parts of its file."""
    family, network = NETWORKS[name]
    image = network.endswith("image")
    state = checkpoint(network, average=False, first_stage=False)
    levels = {"block_out_channels": (8,) * 4, "norm_num_groups": 4, "latent_channels": 4}
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 4,
             "up_block_types": ("UpDecoderBlock2D",) * 4}  # fmt: skip
    return VideoParts(
        model=family.assemble(state, name).model,
        autoencoder=drawn(AutoencoderKL(**levels, **kinds)),
        text=TextModel(drawn(CLIPTextModel(TEXT)), ClipTokenizer(0), 77, 0),
        image_encoder=drawn(CLIPVisionModel(VISION)) if image else None,
        resampler=drawn(ImageResampler(RESAMPLER)) if image else None,
    )


def drawn(module: nn.Module) -> nn.Module:
    """Random values that do not depend on how a library's version initialises the module."""
    for parameter in module.parameters():
        parameter.data.zero_()
    return fill(module.eval())


ROLLING = {"steps": 3, "schedule": "uniform", "strategy": "rolling", "strategy.window": 3,
           "strategy.lookahead": True, "strategy.eta": 0.5}  # fmt: skip


def small_prompt(name: str) -> dict:
    """A shipped workflow in API format for a small video, whose latents are saved as well, and a
    second sampler with rolling, whose latents are saved."""
    prompt = json.loads((WORKFLOWS / "api" / f"{name}.json").read_text("utf-8"))
    for node in prompt.values():
        if node["class_type"] == "VideoLDM_VideoSampler":
            node["inputs"] |= dict(width=SIDE, height=SIDE, frames=FRAMES, steps=2)
    (sampler,) = (k for k, one in prompt.items() if one["class_type"] == "VideoLDM_VideoSampler")
    plain = {key: value for key, value in prompt[sampler]["inputs"].items()
             if not key.startswith("strategy.")}  # fmt: skip
    rolling = {"class_type": "VideoLDM_VideoSampler", "inputs": plain | ROLLING}
    return prompt | {
        "rolling": rolling,
        "saved": _saved(sampler, "latents/toy"),
        "saved rolling": _saved("rolling", "latents/rolling"),
    }


def _saved(key: str, prefix: str) -> dict:
    """A SaveLatent node for the latents of node `key`."""
    inputs = {"samples": [key, 0], "filename_prefix": prefix}
    return {"class_type": "SaveLatent", "inputs": inputs}


def model_file(name: str) -> str:
    """The name of the network's file in the workflow."""
    workflow = json.loads((WORKFLOWS / f"{name}.json").read_text("utf-8"))
    return workflow["models"][0]["name"]
