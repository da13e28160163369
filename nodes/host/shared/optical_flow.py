"""Calling optical flow models with the signature of torchvision's RAFT."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....core.tasks.optical_flow import Flow, enlarged_flow

SIDE, SMALLEST = 8, 128
"""The sides of RAFT's frames are multiples of the first and at least the second."""


def flow_of(model: nn.Module, device: torch.device) -> Flow:
    """The model's flow between frames of any size, which are resized for it; in their pixels."""

    @torch.no_grad()
    def flow(frames: Tensor, others: Tensor) -> Tensor:
        size = frames.shape[-2:]
        able = [max(SMALLEST, round(side / SIDE) * SIDE) for side in size]
        both = (one.to(device, torch.float32) for one in (frames, others))
        found = model(*(_resized(one, able) for one in both))[-1]
        return enlarged_flow(found, size).to(frames)

    return flow


def check_flow(wire: Any) -> None:
    """Raise ValueError for anything but an optical flow model."""
    if not isinstance(getattr(wire, "model", None), nn.Module):
        raise ValueError(
            f"optical_flow is of another kind ({type(wire).__name__}): it takes an optical flow "
            "model, from Load Optical Flow Model or Optical Flow from Gradients"
        )


def _resized(frames: Tensor, size: list[int]) -> Tensor:
    if list(frames.shape[-2:]) == size:
        return frames
    return F.interpolate(frames, size=size, mode="bilinear", align_corners=False)
