"""OpenCLIP's image encoder as transformers' CLIPVisionModel (ViT-H/14)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModel

from ..checkpoints import complain, load_into
from .stable_diffusion_keys import rename_all, text_from_open_clip

HEAD_WIDTH = 80
"""Of ViT-H, which the weights do not tell."""

ENDS = {
    "class_embedding": "embeddings.class_embedding",
    "positional_embedding": "embeddings.position_embedding.weight",
    "conv1": "embeddings.patch_embedding",
    "ln_pre": "pre_layrnorm",
    "ln_post": "post_layernorm",
}
BLOCKS = "transformer."


def from_state(
    state: Mapping[str, Tensor], name: str, dtype: torch.dtype = torch.float32
) -> CLIPVisionModel:
    """The image encoder of weights under OpenCLIP's names, without ``visual.`` in front.

    ``encoder(pixels).last_hidden_state`` are the tokens after the last block, before the norm that
    stands there. Raises CheckpointError, in one sentence, for weights that do not fit.
    """
    complain("lacks", name, [key for key in ("class_embedding", "conv1.weight",
             "positional_embedding") if key not in state])  # fmt: skip
    blocks = {k: v for k, v in state.items() if k.startswith(BLOCKS)}
    layers = 1 + max((int(key.split(".")[2]) for key in blocks), default=-1)
    own = text_from_open_clip(blocks, layers)
    own |= rename_all({k: v for k, v in state.items() if k not in blocks}, ENDS, name)
    with torch.device("meta"):
        encoder = CLIPVisionModel(_config(state, own, layers))
    prefix = "vision_model." if any("vision_model." in k for k in encoder.state_dict()) else ""
    load_into(encoder, {prefix + k: v for k, v in own.items()}, name, dtype)
    positions = torch.arange(len(state["positional_embedding"]))[None]
    for module in encoder.modules():
        if "position_ids" in module._buffers:
            module.position_ids = positions  # Not part of the state, so still on meta.
    return encoder


def _config(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], layers: int
) -> CLIPVisionConfig:
    width, _, patch, _ = state["conv1.weight"].shape
    inner = own.get("encoder.layers.0.mlp.fc1.bias")
    return CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=4 * width if inner is None else len(inner),
        num_hidden_layers=layers,
        num_attention_heads=max(width // HEAD_WIDTH, 1),
        patch_size=patch,
        image_size=patch * math.isqrt(len(state["positional_embedding"]) - 1),
        hidden_act="gelu",
    )
