"""AnimateDiff (Guo et al. 2023) and its successors: motion modules for any checkpoint of Stable
Diffusion 1.x or XL, loaded as temporal layers by site.

Supported are v1, v2, v3, the XL beta, Hotshot-XL, AnimateLCM with and without an image, and PIA,
each as the original file, under a prefix, or as diffusers' MotionAdapter; and motion LoRAs.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..networks.sites import UNetLayout
from ..networks.temporal_layers import TemporalLayers
from ..networks.weight_updates import WeightUpdates
from ..weights.checkpoints import CheckpointError, broken_config, load_into
from ..weights.weight_files import read_weights
from . import animatediff_keys as keys
from .animatediff_config import AnimateDiffConfig, detect, prefix_of
from .animatediff_lora import MotionLora, beside, load_lora, with_loras
from .stable_diffusion_folders import find_weights
from .stable_diffusion_refusals import what_it_is

FAMILY = "animatediff"
CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model"
"""File names in diffusers' folders."""


def load_layers(
    path: str | os.PathLike,
    *,
    loras: Sequence[MotionLora] = (),
    layout: UNetLayout | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> TemporalLayers:
    """Load the motion modules of a file, or of a MotionAdapter's folder, as temporal layers.

    layout: of the image network, if it is neither Stable Diffusion 1's nor XL's. Raises
    CheckpointError.
    """
    path = Path(path)
    state = read(path)
    config = config_of(path, state)
    if layout is not None:
        config = replace(config, layout=layout)
    return assemble(state, config, path.name, loras=loras, dtype=dtype).to(device)


def load_updates(path: str | os.PathLike, layers: TemporalLayers, ops=nn) -> WeightUpdates:
    """Load a motion LoRA as updates that run beside these motion modules."""
    return beside(layers, load_lora(path), ops)


def detects(path: Path) -> bool:
    """Whether a file without a header, or a folder, holds motion modules."""
    try:
        return prefix_of(read(path)) is not None
    except CheckpointError:
        return False


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file or a diffusers folder, without the prefix of motion modules."""
    state = read_weights(find_weights(path, WEIGHTS) if path.is_dir() else path)
    return without_prefix(state)


def without_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Strip the prefix of motion modules; keys without it stay, and are rejected later."""
    prefix = prefix_of(state)
    return {k.removeprefix(prefix): v for k, v in state.items()} if prefix else dict(state)


def config_of(path: Path, state: Mapping[str, Tensor]) -> AnimateDiffConfig:
    """The configuration, read off the weights and diffusers' config file beside them.

    Raises CheckpointError for files without motion modules.
    """
    config = detect({k: tuple(v.shape) for k, v in state.items()}, **_numbers_beside(path))
    if config is None:
        raise CheckpointError(f"{path.name} holds no motion modules{what_it_is(state)}")
    return replace(config, lightning=lightning_steps(path.name))


def lightning_steps(name: str) -> int:
    """The number of steps that AnimateDiff-Lightning modules were distilled to, from a file name
    such as animatediff_lightning_4step_comfyui.safetensors; 0 for others.

    The weights do not reveal it. It only affects sampling settings.
    """
    found = re.search(r"lightning[_-]?(\d{1,2})[_-]?steps?", name, re.IGNORECASE)
    return int(found[1]) if found else 0


def _numbers_beside(path: Path) -> dict[str, Any]:
    """Settings that the weights do not reveal, from diffusers' configuration if there is one."""
    if not path.is_dir() and not path.name.startswith(WEIGHTS):
        return {}
    beside = (path if path.is_dir() else path.parent) / CONFIG
    if not beside.is_file():
        return {}
    with broken_config(str(beside)):
        config = json.loads(beside.read_text(encoding="utf-8"))
        names = {"heads": "motion_num_attention_heads", "norm_groups": "motion_norm_num_groups"}
        return {ours: int(config[theirs]) for ours, theirs in names.items() if theirs in config}


def assemble(
    state: Mapping[str, Tensor],
    config: AnimateDiffConfig,
    name: str = "the file",
    *,
    loras: Sequence[MotionLora] = (),
    dtype: torch.dtype = torch.float32,
) -> TemporalLayers:
    """Build the layers from a state dict, with LoRAs beside them; unknown keys are an error."""
    found, spec = keys.split(state, config, name).layers, config.layers_spec()
    spec, updates = with_loras(spec, loras)
    with torch.device("meta"):
        layers = TemporalLayers(spec)
    return load_into(layers, {**found, **updates}, f"the motion modules of {name}", dtype)


def to_original(layers: TemporalLayers, config: AnimateDiffConfig) -> dict[str, Tensor]:
    """The file's state dict: inverse of :func:`assemble`, for layers without LoRAs."""
    return keys.join(keys.Split(layers.state_dict(), []), config)
