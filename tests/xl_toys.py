"""SDXL at toy size, with its two text encoders, as a single file and as a diffusers folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from model_toys import fill
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection
from videoldm.core.diffusion.schedules import scaled_linear
from videoldm.core.families import stable_diffusion as sd
from videoldm.core.families.animatediff_config import AnimateDiffConfig
from videoldm.core.families.stable_diffusion_specs import (
    CLIP_L,
    OPEN_CLIP_G,
    autoencoder_config,
    unet_config,
)
from videoldm.core.families.stable_diffusion_xl import SecondText
from videoldm.core.networks.sites import UNetLayout
from videoldm.core.text.clip_vocabulary import ClipTokenizer

NAME = "toy xl"
LAYOUT = UNetLayout(channels=(32, 64, 64), layers=2, depths=(0, 1, 2), mid_depth=2)
POOLED, SIZES = 24, 256
"""Widths of the pooled text embedding and, as published, of the sinusoidal embedding of each of the
six numbers of sizes and crops."""
SMALL = dict(num_hidden_layers=4, num_attention_heads=2, vocab_size=49408)
TEXT = CLIP_L | SMALL | dict(hidden_size=16, intermediate_size=32, projection_dim=16)
SECOND = OPEN_CLIP_G | SMALL | dict(hidden_size=24, intermediate_size=40, projection_dim=POOLED)

SPEC = sd.ImageSpec(
    layout=LAYOUT,
    unet=unet_config(
        LAYOUT, cross_attention_dim=40, attention_head_dim=(2, 4, 4), norm_num_groups=32,
        use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=SIZES,
        projection_class_embeddings_input_dim=POOLED + 6 * SIZES,
    ),
    autoencoder=autoencoder_config((8, 8, 16, 16), 0.13025) | dict(norm_num_groups=4),
    text=TEXT, second_text=SECOND, half_autoencoder=False,
)  # fmt: skip


def toy_model() -> sd.ImageModel:
    torch.manual_seed(0)
    unet = fill(UNet2DConditionModel(**SPEC.unet), seed=1, scale=0.05).eval()
    autoencoder = fill(AutoencoderKL(**SPEC.autoencoder), seed=2).eval()
    text = fill(CLIPTextModel(CLIPTextConfig(**TEXT)), seed=3).eval()
    second = fill(CLIPTextModelWithProjection(CLIPTextConfig(**SECOND)), seed=4).eval()
    model = sd.model_of(unet, SPEC.autoencoder, scaled_linear(), "eps", None, 0)
    pair = SecondText(second, ClipTokenizer(0))
    return sd.ImageModel(model, text, ClipTokenizer(), 77, autoencoder, second_text=pair)


def state_of(model: sd.ImageModel) -> dict[str, torch.Tensor]:
    return {k: v.contiguous() for k, v in sd.to_ldm(model, SPEC).items()}


def write_file(path: Path, **more: torch.Tensor) -> Path:
    save_file(state_of(toy_model()) | more, path)
    return path


def write_folder(folder: Path) -> Path:
    model = toy_model()
    model.model.network.image_unet.save_pretrained(folder / "unet")
    model.autoencoder.save_pretrained(folder / "vae")
    model.text_encoder.save_pretrained(folder / "text_encoder")
    model.second_text.encoder.save_pretrained(folder / "text_encoder_2")
    (folder / "scheduler").mkdir()
    config = dict(beta_schedule="scaled_linear", beta_start=8.5e-4, beta_end=0.012)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    return folder


def layers_config(variant: str) -> AnimateDiffConfig:
    """The config of motion modules for this layout."""
    from animatediff_toys import toy_config

    return replace(toy_config(variant), layout=LAYOUT, norm_groups=32, heads=8)
