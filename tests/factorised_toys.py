"""LVDM's and VideoCrafter's networks at toy size, with random weights in all layers."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import torch
from model_toys import fill
from torch import Tensor
from videoldm.core.diffusion.schedules import scaled_linear
from videoldm.core.families import factorised_keys as keys
from videoldm.core.families.lvdm import TEXT_BETAS, UNCONDITIONAL_BETAS
from videoldm.core.networks.autoencoder_3d import Autoencoder3D, Autoencoder3DConfig
from videoldm.core.networks.factorised_unet import FactorisedConfig, FactorisedUNet, GivenFramesSpec
from videoldm.core.networks.layers.factorised_transformers import (
    InterleavedTransformerSpec,
    SplitAttentionSpec,
    StackedTransformersSpec,
)

MANIFESTS = Path(__file__).parent / "manifests"
SPLIT = SplitAttentionSpec(heads=4, max_distance=3)
AUTOENCODER = Autoencoder3DConfig(width=16, factors=(2, 2, 2), scale=0.5, shift=1.5)


def config(attention: Any = SPLIT, **changes: Any) -> FactorisedConfig:
    """Two levels of 32 and 64 channels, attention on the coarser one."""
    own = dict(channels=(32, 64), layers=1, attended=(False, True), attention=attention)
    return FactorisedConfig(**own | changes)


CONFIGS = {
    "unconditional": config(scale_shift=True),
    "given frames": config(scale_shift=True, given=GivenFramesSpec(levels=251)),
    "given frames, per frame": config(scale_shift=True, given=GivenFramesSpec()),
    "text": config(
        InterleavedTransformerSpec(heads=8, text=24, max_distance=4, depth=2),
        attended=(True, False),
        layers=2,
    ),
    "heads of one width, kernels over time": config(
        SplitAttentionSpec(heads=None, head_width=8, max_distance=3),
        attended=(True, True),
        kernel=3,
    ),
    "videocrafter 1": config(
        StackedTransformersSpec(head_width=8, text=24, max_distance=4),
        pooled_norm=False,
        first_attention=True,
        channels=(32, 64, 32),
        attended=(True, True, False),
    ),
    "videocrafter image": config(
        StackedTransformersSpec(head_width=8, text=24, image=12, depth=2, time_depth=3),
        pooled_norm=False,
        first_attention=True,
        time_convolutions=(1, 1, 1, 1),
        frames_per_second=True,
    ),
}


def network(name: str, seed: int = 0) -> FactorisedUNet:
    torch.manual_seed(seed)
    return fill(FactorisedUNet(CONFIGS[name]).eval().requires_grad_(False), seed)


def autoencoder(seed: int = 1, **changes: Any) -> Autoencoder3D:
    own = Autoencoder3DConfig(**vars(AUTOENCODER) | changes)
    torch.manual_seed(seed)
    return fill(Autoencoder3D(own).eval().requires_grad_(False), seed, 0.1)


def checkpoint(name: str, *, average: bool = True, first_stage: bool = True) -> dict[str, Tensor]:
    """A state dict in the original format, with schedule buffers and EMA weights."""
    raw = keys.unet_to_original(network(name).state_dict(), CONFIGS[name])
    state = {"betas": betas_of(name), "sqrt_alphas_cumprod": torch.zeros(1000)}
    state |= {f"model.diffusion_model.{k}": v for k, v in raw.items()}
    if average:
        other = keys.unet_to_original(network(name, seed=9).state_dict(), CONFIGS[name])
        flat = {f"diffusion_model{k}".replace(".", ""): v for k, v in other.items()}
        counters = {"decay": torch.tensor(0.9999), "num_updates": torch.tensor(5)}
        state |= {f"model_ema.{k}": v for k, v in (flat | counters).items()}
    if first_stage:
        inner = keys.autoencoder_to_original(autoencoder().state_dict(), AUTOENCODER)
        state |= {f"first_stage_model.{k}": v for k, v in inner.items()}
    return state


def betas_of(name: str) -> Tensor:
    """The betas of the published models."""
    with_text = any(part in name for part in ("text", "t2v", "videocrafter"))
    ends = TEXT_BETAS if with_text else UNCONDITIONAL_BETAS
    return scaled_linear(start=ends[0], end=ends[1]).betas.float()


def manifest(name: str) -> dict[str, Tensor]:
    """A published file's state dict on the meta device, except for real betas."""
    with gzip.open(MANIFESTS / f"{name}.json.gz", "rt") as file:
        shapes = json.load(file)
    state = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    return state | ({"betas": betas_of(name)} if "betas" in state else {})
