"""Image autoencoders of Stable Diffusion under any of the key names in circulation, complete or
decoder only."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from ..weights.checkpoints import CheckpointError, load_into
from ..weights.weight_files import read_weights
from .stable_diffusion_folders import build_autoencoder
from .stable_diffusion_keys import autoencoder_from_ldm, modern_autoencoder, plain_attention
from .stable_diffusion_parts import take_apart
from .stable_diffusion_refusals import what_it_is
from .stable_diffusion_specs import autoencoder_config

LATENT_CHANNELS = 4
SCALES = {3: 0.08333, 4: 0.18215}
"""Latent scales by number of levels: the upscaler's autoencoder, and all others."""

_LEVEL = re.compile(r"(?:encoder|decoder)\.(?:down|up)(?:_blocks)?\.(\d+)\.")
_BLOCK = re.compile(r"(encoder|decoder)\.(?:down|up)(?:_blocks)?\.\d+\.(?:block|resnets)\.(\d+)\.")


def load(
    path: str | os.PathLike,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> AutoencoderKL:
    """Load an autoencoder from a file of its own or from a checkpoint.

    Without an encoder in the file, it has no attribute ``encoder``. Raises CheckpointError for a
    file that holds none, or another model's.
    """
    path = Path(path)
    state = read_weights(path)
    own = take_apart(state, path.name).autoencoder if _has_decoder(state) else {}
    if not own:
        raise CheckpointError(f"{path.name} holds no autoencoder{what_it_is(state)}")
    return from_state(own, path.name, dtype).to(device)


def from_state(
    state: Mapping[str, Tensor],
    name: str,
    dtype: torch.dtype = torch.float32,
    *,
    scale: float | None = None,
) -> AutoencoderKL:
    """Build an autoencoder from its state dict, with the sizes read off it. scale: of its latents;
    None for that of Stable Diffusion's autoencoder with as many levels."""
    levels, layers = size_of(state)
    config = _config(state, levels, layers, name)
    if scale is not None:
        config["scaling_factor"] = scale
    return load_state(state, config, name, dtype)


def load_state(
    state: Mapping[str, Tensor], config: Mapping[str, Any], name: str, dtype: torch.dtype
) -> AutoencoderKL:
    """Build the autoencoder of this configuration from weights under ldm's or diffusers' names."""
    levels, layers = len(config["block_out_channels"]), config["layers_per_block"]
    module = build_autoencoder(config)
    if not any(key.startswith("encoder.") for key in state):
        del module.encoder
        module.quant_conv = None
        state = {k: v for k, v in state.items() if not k.startswith("quant_conv.")}
    return load_into(module, renamed(state, levels, layers), name, dtype)


def renamed(state: Mapping[str, Tensor], levels: int, layers: int) -> dict[str, Tensor]:
    """Rename the weights to diffusers' current names."""
    if any(".mid_block." in key for key in state):
        return modern_autoencoder(state)
    return autoencoder_from_ldm(plain_attention(state), levels, layers)


def size_of(keys: Iterable[str]) -> tuple[int, int]:
    """Levels, and residual blocks per level of the encoder; the decoder has one more."""
    levels, layers = 0, 0
    for key in keys:
        level, block = _LEVEL.match(key), _BLOCK.match(key)
        levels = max(levels, int(level[1]) + 1 if level else 0)
        if block:
            layers = max(layers, int(block[2]) + (block[1] == "encoder"))
    return levels, layers


def _has_decoder(keys: Iterable[str]) -> bool:
    return any("decoder.conv_in." in key for key in keys)


def _config(state: Mapping[str, Tensor], levels: int, layers: int, name: str) -> dict[str, Any]:
    """diffusers' configuration, read off the weights; CheckpointError for other models'."""
    first = state.get("decoder.conv_in.weight")
    if first is not None and first.ndim == 4 and first.shape[1] != LATENT_CHANNELS:
        raise CheckpointError(
            f"{name} has latents of {first.shape[1]} channels, as of Stable Diffusion 3 or Flux; "
            f"the models here have {LATENT_CHANNELS}"
        )
    if first is None or first.ndim != 4 or not levels or not layers:
        raise CheckpointError(f"{name} holds no autoencoder for images")
    return autoencoder_config(_channels(state, levels), SCALES.get(levels, SCALES[4])) | dict(
        layers_per_block=layers,
        use_quant_conv=any(key.startswith("quant_conv.") for key in state),
        use_post_quant_conv=any(key.startswith("post_quant_conv.") for key in state),
    )


def _channels(state: Mapping[str, Tensor], levels: int) -> tuple[int, ...]:
    """The width of every level, fine to coarse."""
    found = []
    for level in range(levels):
        # ldm counts from the finest level, diffusers' decoder from the coarsest.
        names = (
            f"decoder.up.{level}.block.0.conv2.weight",
            f"decoder.up_blocks.{levels - 1 - level}.resnets.0.conv2.weight",
        )
        weight = next((state[name] for name in names if name in state), None)
        if weight is None:
            raise CheckpointError(f"the autoencoder lacks the key {names[0]} or {names[1]}")
        found.append(len(weight))
    return tuple(found)
