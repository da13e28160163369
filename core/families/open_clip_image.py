"""OpenCLIP's image encoder (ViT-H/14) as transformers' CLIPVisionModel, with or without its
projection, and its preprocessing."""

from __future__ import annotations

import math
from collections.abc import Mapping

import kornia
import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel, CLIPVisionModelWithProjection

from ..weights.checkpoints import complain, load_into, part
from .stable_diffusion_keys import inverse, rename_all, text_from_open_clip, text_to_open_clip

HEAD_WIDTH = 80
"""Of ViT-H; the weights do not reveal it."""

ENDS = {
    "class_embedding": "embeddings.class_embedding",
    "positional_embedding": "embeddings.position_embedding.weight",
    "conv1": "embeddings.patch_embedding",
    "ln_pre": "pre_layrnorm",
    "ln_post": "post_layernorm",
}
BLOCKS = "transformer."
TOWER, PROJECTION = "vision_model.", "visual_projection.weight"
NEEDED = ("embeddings.class_embedding", "embeddings.patch_embedding.weight",
          "embeddings.position_embedding.weight")  # fmt: skip
MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)


def squashed_pixels(images: Tensor, side: int = 224) -> Tensor:
    """Preprocess images [n 3 h w] in [-1, 1] for Stable Video Diffusion's encoder: [n 3 side side],
    the whole image squashed to a square with antialiasing, normalised as CLIP has it."""
    resized = kornia.geometry.transform.resize(
        images, (side, side), interpolation="bicubic", align_corners=True, antialias=True
    )
    mean, deviation = (resized.new_tensor(one)[:, None, None] for one in (MEAN, DEVIATION))
    return ((resized + 1) / 2 - mean) / deviation


def from_state(
    state: Mapping[str, Tensor], name: str, dtype: torch.dtype = torch.float32
) -> CLIPVisionModel:
    """Build the image encoder from weights under OpenCLIP's names, without the prefix ``visual.``.

    ``encoder(pixels).last_hidden_state`` are the tokens after the last block, before the final
    norm. Raises CheckpointError for weights that do not fit.
    """
    return _load(CLIPVisionModel, _from_open_clip(state, name), {}, name, dtype)


def projected_from_state(
    state: Mapping[str, Tensor], name: str, dtype: torch.dtype = torch.float32
) -> CLIPVisionModelWithProjection:
    """The same with its projection; the weights may also have transformers' names.

    ``encoder(pixels).image_embeds`` is [n d].
    """
    kind = CLIPVisionModelWithProjection
    if PROJECTION in state:
        tower = part(state, TOWER)
        others = [k for k in state if k != PROJECTION and not k.startswith(TOWER)]
        complain("has unknown", name, others)
        return _load(kind, tower, {PROJECTION: state[PROJECTION]}, name, dtype)
    complain("lacks", name, [key for key in ("proj",) if key not in state])
    tower = _from_open_clip({k: v for k, v in state.items() if k != "proj"}, name)
    # OpenCLIP multiplies from the right, so its matrix is transposed.
    return _load(kind, tower, {PROJECTION: state["proj"].T}, name, dtype)


def projected_to_open_clip(encoder: CLIPVisionModelWithProjection) -> dict[str, Tensor]:
    """Inverse of :func:`projected_from_state` for OpenCLIP's names."""
    state = {k.removeprefix(TOWER): v for k, v in encoder.state_dict().items()}
    projection = state.pop(PROJECTION)
    blocks = {k: v for k, v in state.items() if k.startswith("encoder.")}
    found = text_to_open_clip(blocks, encoder.config.num_hidden_layers)
    rest = {k: v for k, v in state.items() if k not in blocks}
    return found | rename_all(rest, inverse(ENDS), "the image encoder") | {"proj": projection.T}


def _from_open_clip(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Rename the tower's weights to transformers' names."""
    blocks = {k: v for k, v in state.items() if k.startswith(BLOCKS)}
    own = text_from_open_clip(blocks, _layers(blocks, 2))
    return own | rename_all({k: v for k, v in state.items() if k not in blocks}, ENDS, name)


def _layers(blocks: Mapping[str, Tensor], place: int) -> int:
    """One more than the highest index at this place in the paths; 0 if there are none."""
    return 1 + max((int(key.split(".")[place]) for key in blocks), default=-1)


def _load(
    kind: type[CLIPVisionModel] | type[CLIPVisionModelWithProjection],
    tower: Mapping[str, Tensor],
    further: Mapping[str, Tensor],
    name: str,
    dtype: torch.dtype,
) -> nn.Module:
    """tower: under transformers' names. further: the projection, or nothing."""
    complain("lacks", name, [key for key in NEEDED if key not in tower])
    config = _config(tower)
    if further:
        config.projection_dim = len(further[PROJECTION])
    with torch.device("meta"):
        encoder = kind(config)
    prefix = TOWER if any(TOWER in k for k in encoder.state_dict()) else ""
    load_into(encoder, {prefix + k: v for k, v in tower.items()} | dict(further), name, dtype)
    positions = torch.arange(len(tower["embeddings.position_embedding.weight"]))[None]
    for module in encoder.modules():
        if "position_ids" in module._buffers:
            module.position_ids = positions  # Not part of the state, so still on meta.
    return encoder


def _config(tower: Mapping[str, Tensor]) -> CLIPVisionConfig:
    width, _, patch, _ = tower["embeddings.patch_embedding.weight"].shape
    inner = tower.get("encoder.layers.0.mlp.fc1.bias")
    blocks = {k: v for k, v in tower.items() if k.startswith("encoder.layers.")}
    positions = len(tower["embeddings.position_embedding.weight"])
    return CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=4 * width if inner is None else len(inner),
        num_hidden_layers=_layers(blocks, 2),
        num_attention_heads=max(width // HEAD_WIDTH, 1),
        patch_size=patch,
        image_size=patch * math.isqrt(positions - 1),
        hidden_act="gelu",
    )
