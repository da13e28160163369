"""Stable Video Diffusion at toy size: random weights under published names, in files that are
recognised by their content."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from lavie_toys import randomized
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
from videoldm.core.families import svd, svd_decoder
from videoldm.core.families import svd_files as files
from videoldm.core.families.open_clip_image import projected_to_open_clip
from videoldm.core.families.stable_diffusion_folders import build_unet
from videoldm.core.families.stable_diffusion_keys import autoencoder_to_ldm
from videoldm.core.families.stable_diffusion_specs import autoencoder_config
from videoldm.core.families.svd_config import SvdConfig
from videoldm.core.networks.layers.residual import TemporalResBlockSpec
from videoldm.core.networks.sites import UNetLayout
from videoldm.core.networks.temporal_decoder import (
    ATTENTION,
    OUT,
    OutputConvolutionSpec,
    VideoDecoder,
    decoder_sites,
)
from videoldm.core.networks.temporal_layers import TemporalLayers

MANIFESTS = Path(__file__).parent / "manifests"
CONTEXT = 24
LAYOUT = UNetLayout(channels=(32, 64), layers=1, depths=(1, 0))
LEVELS, LAYERS = 2, 1  # of the autoencoder


def config_of(**changes: Any) -> SvdConfig:
    return SvdConfig(**dict(layout=LAYOUT, context_width=CONTEXT, ids_width=24) | changes)


def unet(config: SvdConfig | None = None, seed: int = 0) -> svd.UNet:
    config = config or config_of()
    image = build_unet(config.unet_config()).to_empty(device="cpu")
    layers = TemporalLayers(config.layers_spec())
    return svd.UNet(randomized(image, seed), randomized(layers, seed + 1), config)


def autoencoder(levels: int = LEVELS, **changes: Any) -> AutoencoderKL:
    channels = *(32,) * (levels - 1), 64
    config = autoencoder_config(channels, 0.18215) | dict(layers_per_block=LAYERS)
    return randomized(AutoencoderKL(**config | changes), 3)


def decoder(levels: int = LEVELS) -> VideoDecoder:
    image = autoencoder(levels, use_post_quant_conv=False)
    layers: dict[str, Any] = {
        site: TemporalResBlockSpec(pooled_norm=True)
        for site, _ in decoder_sites(image)
        if site not in (ATTENTION, OUT)
    }
    made = VideoDecoder(image, layers | {OUT: OutputConvolutionSpec()})
    randomized(made.layers, 4)
    return made.eval()


def image_encoder(width: int = CONTEXT) -> CLIPVisionModelWithProjection:
    config = CLIPVisionConfig(
        hidden_size=80, intermediate_size=160, num_hidden_layers=2, num_attention_heads=1,
        patch_size=14, image_size=28, hidden_act="gelu", projection_dim=width,
    )  # fmt: skip
    return randomized(CLIPVisionModelWithProjection(config), 5)


def single_file(temporal: bool = True, levels: int = LEVELS) -> dict[str, Tensor]:
    """The state dict of a published file, including the unused weights that it has."""
    state = {files.UNET + k: v for k, v in svd.unet_to_foreign(unet(), "ldm").items()}
    given = autoencoder_to_ldm(autoencoder(levels).state_dict(), levels, LAYERS)
    state |= {files.CONDITIONER + k: v for k, v in given.items()}
    first = dict(given)
    if temporal:
        first = {k: v for k, v in given.items() if k.startswith("encoder.")}
        own = svd_decoder.to_foreign(decoder(levels), "ldm")
        first |= {k: v for k, v in own.items() if k.startswith("decoder.")}
    state |= {files.FIRST_STAGE + k: v for k, v in first.items()}
    visual = projected_to_open_clip(image_encoder())
    state |= {f"{files.CLIP}{files.VISUAL}{k}": v for k, v in visual.items()}
    return state | {files.CLIP + k: torch.zeros(2) for k in files.TEXT_TOWER}


def manifest(name: str) -> dict[str, Tensor]:
    """A published file's state dict on the meta device."""
    return {k: torch.empty(shape, device="meta") for k, shape in names(name).items()}


def names(name: str) -> dict[str, Any]:
    """A manifest: shapes by key, or a table of keys."""
    with gzip.open(MANIFESTS / f"{name}.json.gz", "rt") as file:
        return json.load(file)


def read_keys(path: Path) -> list[str]:
    """The keys of a safetensors file."""
    with safe_open(path, framework="pt") as file:
        return list(file.keys())


FILE = "svd_toy.safetensors"


def write_single(folder: Path, name: str = FILE, temporal: bool = True) -> Path:
    """Write a single file with all parts, rounded to half precision; its VAE has the published
    factor of 8 pixels per latent position."""
    folder.mkdir(parents=True, exist_ok=True)
    state = single_file(temporal, levels=4)
    # A random network amplifies rounding errors: small outputs keep them small.
    state |= {k: v / 10 for k, v in state.items() if k.startswith(f"{files.UNET}out.2.")}
    # ComfyUI keeps image encoders in half precision.
    state = {k: v.half().float() for k, v in state.items()}
    save_file({k: v.clone().contiguous() for k, v in state.items()}, folder / name)
    return folder / name


def write_as_core_detects(folder: Path, name: str) -> Path:
    """Write a single file in half precision that ComfyUI's own loader detects as Stable Video
    Diffusion.

    Detection goes by sizes: the first level of the U-Net has 320 channels, so here all have, and
    depths and embedding widths are the published ones, as is the VAE. The image encoder, which that
    loader does not return, is a toy.
    """
    layout = UNetLayout(channels=(320,) * 4, layers=2, depths=(1, 1, 1, 0))
    video_unet = unet(config_of(layout=layout, context_width=1024, ids_width=768))
    state = {files.UNET + k: v for k, v in svd.unet_to_foreign(video_unet, "ldm").items()}
    state |= {k: v / 10 for k, v in state.items() if k.startswith(f"{files.UNET}out.2.")}
    first = _first_stage()
    state |= {files.FIRST_STAGE + k: v for k, v in first.items()}
    state |= {files.CONDITIONER + k: v for k, v in first.items() if k.startswith(files.ENCODER)}
    visual = projected_to_open_clip(image_encoder(1024))
    state |= {f"{files.CLIP}{files.VISUAL}{k}": v for k, v in visual.items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.half().clone().contiguous() for k, v in state.items()}, folder / name)
    return folder / name


def _first_stage() -> dict[str, Tensor]:
    """Encoder and temporal decoder of published size."""
    random = torch.Generator().manual_seed(6)
    state = {}
    for key, shape in names("svd_temporal_decoder_first_stage").items():
        drawn = torch.randn(shape, generator=random)
        drawn /= max(drawn[0].numel(), 1) ** 0.5 if drawn.ndim > 1 else 10
        norm = "norm" in key or "layers.0." in key
        state[key.removeprefix(files.FIRST_STAGE)] = drawn + (norm and key.endswith("weight"))
    return state
