"""LaVie (Wang et al. 2023): text to video, temporal interpolation and video super-resolution.

Each of its three files is an image U-Net (Stable Diffusion 1.4, or the x4 upscaler) with temporal
layers, and is loaded as such: the image network under its own names, and a set of temporal layers
that can also be injected into another checkpoint of the same layout.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from ..diffusion.preconditioning import discrete
from ..diffusion.schedules import linear, scaled_linear
from ..networks.diffusion_model import DiffusionModel
from ..networks.layers.residual import channels_last
from ..networks.temporal_layers import TemporalLayers
from ..networks.video_unet import inject
from ..weights.checkpoints import (
    CheckpointError,
    Header,
    broken_config,
    complain,
    load_into,
    read_state,
    save,
)
from ..weights.weight_files import header_of, is_safetensors, read_pickle
from . import lavie_keys as keys
from .lavie_config import TASKS, LavieConfig, detect
from .lavie_sampling import SigmaLinearSchedule
from .stable_diffusion_folders import build_unet
from .stable_diffusion_refusals import what_it_is

FAMILY = "lavie"
KINDS = {
    "base": "LaVie's text-to-video model",
    "interpolation": "LaVie's interpolation",
    "vsr": "LaVie's super-resolution",
}
"""Descriptions of its kinds of files, for messages."""
MAX_NOISE_LEVEL = 350


@dataclass(frozen=True)
class Parts:
    """A checkpoint split into the image U-Net and the temporal layers."""

    unet: UNet2DConditionModel
    layers: TemporalLayers


def load(
    path: str | os.PathLike,
    *,
    config: LavieConfig | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> DiffusionModel:
    """Load a LaVie file, .pt or .safetensors, as a model to sample from.

    config: only needed for files of unpublished size, as weights do not reveal the number of norm
    groups, nor of heads without position biases. Raises CheckpointError.
    """
    path = Path(path)
    state = read(path)
    config = config or config_of(path, state)
    return diffusion_model(config, assemble(state, config, path.name, dtype=dtype), device)


def load_layers(
    path: str | os.PathLike,
    *,
    config: LavieConfig | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> TemporalLayers:
    """Load only the temporal layers of a LaVie file, for another image model of the same layout.

    Raises CheckpointError like :func:`load`, also for unknown keys of the image network.
    """
    path = Path(path)
    state = read(path)
    config = config or config_of(path, state)
    image, temporal = keys.split(state, config)
    with torch.device("meta"):
        layers = TemporalLayers(config.layers_spec())
        unet = build_unet(config.unet_config()).state_dict()
    complain("has unknown", path.name, [key for key in image if key not in unet])
    load_into(layers, temporal, f"the temporal layers of {path.name}", dtype)
    return channels_last(layers).to(device)


def detects(path: Path) -> bool:
    """Whether a file without a header holds the weights of a LaVie model."""
    try:
        return detect({k: v.shape for k, v in read(path).items()}) is not None
    except CheckpointError:
        return False


def config_of(path: Path, state: Mapping[str, Tensor]) -> LavieConfig:
    """The configuration in the file's header, else read off its weights; CheckpointError for files
    that are not LaVie's."""
    config = _config_in(path) or detect({k: v.shape for k, v in state.items()})
    if config is None:
        raise CheckpointError(f"{path.name} is not a LaVie model{what_it_is(state)}")
    return config


def read(path: Path) -> dict[str, Tensor]:
    """The flat state dict of a file, without its ``ema`` wrapper if it has one.

    Raises CheckpointError for a file that holds anything but named tensors.
    """
    if is_safetensors(path):
        return read_state(path)
    found = read_pickle(path)
    found = found.get("ema", found) if isinstance(found, Mapping) else {}
    if not isinstance(found, Mapping) or not found:
        raise CheckpointError(f"{path.name} holds no named tensors")
    complain("has no tensor at", path.name, [k for k, v in found.items() if not _is_tensor(k, v)])
    return dict(found)


def _is_tensor(key: Any, value: Any) -> bool:
    return isinstance(key, str) and isinstance(value, Tensor)


def _config_in(path: Path) -> LavieConfig | None:
    """The configuration in the header of a file written by :func:`write`."""
    header = header_of(path)
    if header is None:
        return None
    if header.family != FAMILY:
        raise CheckpointError(f"{path.name} is of the family {header.family}, not {FAMILY}")
    with broken_config(path.name):
        return LavieConfig.from_dict(header.config)


# --------------------------------------------------------------------------------------------------
# State dict -> networks -> model.


def build(config: LavieConfig) -> Parts:
    """The networks without weights, on the meta device."""
    with torch.device("meta"):
        layers = TemporalLayers(config.layers_spec())
    return Parts(build_unet(config.unet_config()), layers)


def assemble(
    state: Mapping[str, Tensor],
    config: LavieConfig,
    name: str = "the file",
    *,
    dtype: torch.dtype = torch.float32,
) -> Parts:
    """Build the networks from a LaVie state dict; unknown keys are an error."""
    parts, (image, temporal) = build(config), keys.split(state, config)
    load_into(parts.unet, image, f"the U-Net of {name}", dtype)
    load_into(parts.layers, temporal, f"the temporal layers of {name}", dtype)
    return Parts(channels_last(parts.unet), channels_last(parts.layers))


def diffusion_model(
    config: LavieConfig, parts: Parts, device: torch.device | str = "cpu"
) -> DiffusionModel:
    """The networks with noise schedule, prediction type and latent scale.

    Betas are linear, unlike Stable Diffusion's; only the upsampler's low-resolution video is noised
    with a scaled linear schedule.
    """
    upsampler = config.kind == "vsr"
    schedule = SigmaLinearSchedule(linear().alphas_cumprod)
    return DiffusionModel(
        network=inject(parts.unet, parts.layers).to(device),
        preconditioning=discrete("v" if upsampler else "eps", schedule),
        own_task="" if config.kind == "base" else TASKS[config.kind],
        latent_channels=config.out_channels,
        factor=4 if upsampler else 8,
        latent_scale=0.08333 if upsampler else 0.18215,
        noise_schedule_for_low_res=scaled_linear(start=1e-4, end=2e-2) if upsampler else None,
        max_noise_level=min(MAX_NOISE_LEVEL, config.noise_levels - 1) if upsampler else 0,
    )


# --------------------------------------------------------------------------------------------------
# Networks -> files.


def to_original(parts: Parts, config: LavieConfig) -> dict[str, Tensor]:
    """The published file's state dict, without the wrapper: inverse of :func:`assemble`."""
    return keys.join(parts.unet.state_dict(), parts.layers.state_dict(), config)


def write(
    path: str | os.PathLike,
    state: Mapping[str, Tensor],
    config: LavieConfig,
    dtype: torch.dtype | None = torch.float16,
) -> None:
    """Write a LaVie state dict, under its own names, as safetensors with the configuration."""
    header = Header(family=FAMILY, kind=config.kind, config=config.as_dict())
    save(path, state, header, dtype)
