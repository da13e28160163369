"""ControlNet files for Stable Diffusion 1, 2 and XL, as published (ldm) or by diffusers.

The configuration is read off the names and shapes of the weights. They do not reveal the attention
heads (8 in Stable Diffusion 1, otherwise one per 64 channels) and the width of the sinusoids of
Stable Diffusion XL's size conditions.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel
from torch import Tensor

from ..networks.sites import UNetLayout
from ..weights.checkpoints import CheckpointError, load_into, part
from ..weights.weight_files import read_weights
from . import stable_diffusion_keys as keys
from .stable_diffusion_refusals import what_it_is

PREFIX = "control_model."
HINT_BLOCKS = 6
"""Convolutions of the hint encoder between its first and its last."""
SINUSOIDS = 256
"""Width of the sinusoidal embedding of each size condition."""
LAST_OF_DIFFUSERS = "controlnet_mid_block.weight"
LAST_OF_LDM = "middle_block_out.0.weight"


def load(
    path: str | os.PathLike,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> ControlNetModel:
    """Load a file; CheckpointError if it holds no such ControlNet."""
    path = Path(path)
    state = read_weights(path)
    state = part(state, PREFIX) or state
    _refuse_others(state, path.name)
    try:
        state = from_ldm(state) if LAST_OF_LDM in state else state
        config = config_of(state)
    except KeyError as error:
        raise CheckpointError(f"{path.name} lacks {error.args[0]}") from None
    with torch.device("meta"):
        network = ControlNetModel.from_config(config)
    return load_into(network, state, path.name, dtype).to(device)


def _refuse_others(state: Mapping[str, Tensor], name: str) -> None:
    if "lora_controlnet" in state:
        raise CheckpointError(f"{name} is a Control-LoRA, which only ComfyUI can use")
    if "difference" in state:
        raise CheckpointError(f"{name} holds differences to a model, which only ComfyUI can add")
    if any(key.startswith(("task_embedding", "control_add_embedding.")) for key in state):
        raise CheckpointError(
            f"{name} is a ControlNet for several kinds of images (Union), which needs ComfyUI"
        )
    if LAST_OF_LDM not in state and LAST_OF_DIFFUSERS not in state:
        raise CheckpointError(
            f"{name} is not a ControlNet for Stable Diffusion 1, 2 or XL{what_it_is(state)}"
        )


def from_ldm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename weights from the published names to diffusers'."""
    return keys.rename_all(state, table(ldm_layout(state)), "the ControlNet")


def table(layout: UNetLayout) -> dict[str, str]:
    """ldm module path -> diffusers module path of a ControlNet for a U-Net of this layout."""
    ways_down = ("input_blocks.", "middle_block.", "time_embed.", "label_emb.")
    unet = {a: b for a, b in keys.unet_table(layout).items() if a.startswith(ways_down)}
    encoder = "controlnet_cond_embedding"
    hints = {"input_hint_block.0": f"{encoder}.conv_in"}
    hints |= {f"input_hint_block.{2 * k + 2}": f"{encoder}.blocks.{k}" for k in range(HINT_BLOCKS)}
    hints |= {f"input_hint_block.{2 * HINT_BLOCKS + 2}": f"{encoder}.conv_out"}
    skips = 1 + layout.levels * (layout.layers + 1) - 1
    zeros = {f"zero_convs.{k}.0": f"controlnet_down_blocks.{k}" for k in range(skips)}
    return {**unet, **hints, **zeros, "middle_block_out.0": "controlnet_mid_block"}


def ldm_layout(state: Mapping[str, Tensor]) -> UNetLayout:
    """The layout of a published file: each down-sampler ends a level."""
    channels, depths, blocks, number = [0], [0], 0, 1
    while any(key.startswith(f"input_blocks.{number}.") for key in state):
        if f"input_blocks.{number}.0.op.weight" in state:
            channels, depths = [*channels, 0], [*depths, 0]
        else:
            blocks += 1
            channels[-1] = len(state[f"input_blocks.{number}.0.in_layers.2.bias"])
            depths[-1] = _depth(state, f"input_blocks.{number}.1.transformer_blocks")
        number += 1
    return UNetLayout(
        channels=tuple(channels), layers=blocks // len(channels), depths=tuple(depths),
        mid_depth=_depth(state, "middle_block.1.transformer_blocks"),
    )  # fmt: skip


def _depth(state: Mapping[str, Tensor], blocks: str) -> int:
    """The number of numbered modules below a path."""
    found = (re.match(rf"{re.escape(blocks)}\.(\d+)\.", key) for key in state)
    return max((int(one[1]) + 1 for one in found if one), default=0)


# --------------------------------------------------------------------------------------------------
# diffusers' configuration.


def config_of(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The configuration, read off weights under diffusers' names."""
    levels = _depth(state, "down_blocks")
    channels = [len(state[f"down_blocks.{i}.resnets.0.conv1.bias"]) for i in range(levels)]
    depths = [
        _depth(state, f"down_blocks.{i}.attentions.0.transformer_blocks") for i in range(levels)
    ]
    middle = "mid_block.attentions.0"
    linear = state[f"{middle}.proj_in.weight"].ndim == 2
    return {
        "in_channels": state["conv_in.weight"].shape[1],
        **_hint_sizes(state),
        "block_out_channels": tuple(channels),
        "layers_per_block": _depth(state, "down_blocks.0.resnets"),
        "down_block_types": tuple(f"{'CrossAttn' * bool(d)}DownBlock2D" for d in depths),
        "transformer_layers_per_block": tuple(d or 1 for d in depths),
        "cross_attention_dim": state[
            f"{middle}.transformer_blocks.0.attn2.to_k.weight"
        ].shape[1],
        "use_linear_projection": linear,
        "attention_head_dim": tuple(max(c // 64, 1) for c in channels) if linear else 8,
        **_added_sizes(state),
    }  # fmt: skip


def _added_sizes(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Settings of the embedding of pooled text and sizes."""
    first = state.get("add_embedding.linear_1.weight")
    if first is None:
        return {}
    return {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": SINUSOIDS,
        "projection_class_embeddings_input_dim": first.shape[1],
    }


def _hint_sizes(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Settings of the hint encoder; a single convolution encodes hints that are latents."""
    hint = "controlnet_cond_embedding"
    if f"{hint}.weight" in state:
        return {"conditioning_channels": state[f"{hint}.weight"].shape[1]}
    return {
        "conditioning_channels": state[f"{hint}.conv_in.weight"].shape[1],
        "conditioning_embedding_out_channels": tuple(
            len(state[f"{hint}.{name}.bias"])
            for name in ("conv_in", *(f"blocks.{k}" for k in range(1, HINT_BLOCKS, 2)))
        ),
    }
