"""The standalone host's OPTICAL_FLOW."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ....core.tasks.optical_flow import Flow
from ..shared.optical_flow import check_flow, flow_of


@dataclass(frozen=True, eq=False)
class StandaloneFlow:
    """A model with the call signature of torchvision's RAFT, and its device."""

    model: nn.Module
    device: torch.device


def flow(wire: StandaloneFlow) -> Flow:
    check_flow(wire)
    return flow_of(wire.model, wire.device)
