"""Size conditioning of models such as SDXL in a CONDITIONING: original size, crop corner and target
size (Podell et al. 2023, section 2.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ....core.networks.conditions import SIZES, NetworkSpec
from .two_prompt_encoders import TwoPromptEncoders

NAMES = ("height", "width", "crop_h", "crop_w", "target_height", "target_width")
"""ComfyUI's keys in a CONDITIONING, in the order in which the network reads them."""


def check_two_encoders(clip: Any) -> None:
    """Raise ValueError for a CLIP with one text encoder."""
    if not isinstance(clip, TwoPromptEncoders):
        raise ValueError(
            "CLIP Text Encode (SDXL) has a prompt for each of two text encoders, but this CLIP has "
            "1: use CLIP Text Encode (Prompt)"
        )


def size_ids(spec: NetworkSpec, conditioning: Sequence) -> dict[str, Tensor]:
    """The sizes [1, 6] in the prompts of one branch, as an id; {} if they have none or the network
    reads none. ValueError for prompts with different sizes."""
    if SIZES not in spec.ids:
        return {}
    told = {_told(more) for _, more in conditioning}
    if len(told) > 1:
        raise ValueError(
            f"the prompts at frames have {len(told)} different sizes, but only 1 is possible"
        )
    (numbers,) = told
    return {} if numbers is None else {SIZES: torch.tensor([numbers], dtype=torch.float32)}


def _told(more: Mapping[str, Any]) -> tuple[int, ...] | None:
    """The six numbers, None without a size; by default nothing is cropped or resized."""
    if "width" not in more or "height" not in more:
        return None
    usual = dict(crop_h=0, crop_w=0, target_height=more["height"], target_width=more["width"])
    return tuple(more.get(name, usual.get(name)) for name in NAMES)
