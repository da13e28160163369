"""ComfyUI's OPTICAL_FLOW: a ModelPatcher around a model with torchvision's signature of RAFT."""

from __future__ import annotations

from typing import Any

import comfy.model_management as manager
import comfy.model_patcher
from torch import Tensor, nn

from ....core.tasks.optical_flow import Flow
from ..shared.optical_flow import check_flow, flow_of


def patched(model: nn.Module) -> Any:
    """The patcher, as ComfyUI's own loader makes it."""
    return comfy.model_patcher.ModelPatcher(
        model.eval(),
        load_device=manager.get_torch_device(),
        offload_device=manager.unet_offload_device(),
    )


def flow(patcher: Any) -> Flow:
    """The model's optical flow, as `flow_of`; each call has ComfyUI load the model if needed."""
    check_flow(patcher)
    found = flow_of(patcher.model, patcher.load_device)

    def loaded(frames: Tensor, others: Tensor) -> Tensor:
        manager.load_model_gpu(patcher)
        return found(frames, others)

    return loaded
