"""The running node, from ComfyUI's executor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import comfy.model_management as manager
import torch
from comfy_execution.progress import get_progress_state
from comfy_execution.utils import get_executing_context

from ....core.graph.content_key import FINGERPRINT, is_nan
from ..interface import RunningNode

OWN = "VideoLDM_"
CORE, EXTRAS = "nodes", "comfy_extras."
"""`RELATIVE_PYTHON_MODULE` of ComfyUI's own nodes: the first, or the second as a prefix."""


def running() -> RunningNode | None:
    """See `Host.running`."""
    context = get_executing_context()
    if context is None:
        return None
    prompt = get_progress_state().dynprompt

    def node_of(node_id: str) -> Mapping[str, Any] | None:
        return _known(prompt.get_node(node_id)) if prompt.has_node(node_id) else None

    return RunningNode(
        node_of=node_of,
        node_id=context.node_id,
        index=context.list_index or 0,
        is_volatile=_is_volatile,
        place=("comfyui", torch.__version__, _device(), str(manager.unet_dtype())),
        is_plain=_is_plain,
    )


def _device() -> str:
    return manager.get_torch_device_name(manager.get_torch_device())


def _known(node: Mapping[str, Any]) -> Mapping[str, Any]:
    """A node without its fingerprint if it is one of this pack's: those contain file times."""
    own = node["class_type"].startswith(OWN)
    return {key: value for key, value in node.items() if not (own and key == FINGERPRINT)}


def _is_volatile(node: Mapping[str, Any]) -> bool:
    """Whether a node is unknown, not idempotent, or has the fingerprint NaN (is always run)."""
    from nodes import NODE_CLASS_MAPPINGS

    cls = NODE_CLASS_MAPPINGS.get(node["class_type"])
    given = node.get(FINGERPRINT)
    asks = any(map(is_nan, given if isinstance(given, list) else [given]))
    return cls is None or getattr(cls, "NOT_IDEMPOTENT", False) or asks


def _is_plain(node: Mapping[str, Any]) -> bool:
    """Whether a node is ours or ComfyUI's own, without lists; others may have hidden state."""
    from nodes import NODE_CLASS_MAPPINGS

    cls = NODE_CLASS_MAPPINGS.get(node["class_type"])
    module = getattr(cls, "RELATIVE_PYTHON_MODULE", None) or CORE
    own = node["class_type"].startswith(OWN)
    known = own or module == CORE or module.startswith(EXTRAS)
    return cls is not None and known and not any(getattr(cls, "OUTPUT_IS_LIST", None) or ())
