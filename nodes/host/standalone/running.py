"""The running node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ....core.graph import current_call
from ....core.graph.context import Call
from ..interface import RunningNode

if TYPE_CHECKING:
    from .devices import Policy


def running(policy: Policy) -> RunningNode | None:
    """See `Host.running`."""
    import torch

    call = current_call.get()
    if call is None or call.prompt is None:
        return None
    place = "standalone", torch.__version__, str(policy.device), str(policy.dtype)
    return RunningNode(
        node_of=lambda node_id: _node(call, node_id),
        node_id=call.node_id,
        index=call.index,
        is_volatile=lambda node: _is_volatile(call, node),
        place=place,
        is_plain=lambda node: _is_plain(call, node),
    )


def _node(call: Call, node_id: str) -> Mapping[str, Any] | None:
    return call.prompt.get_node(node_id) if call.prompt.has_node(node_id) else None


def _is_volatile(call: Call, node: Mapping[str, Any]) -> bool:
    spec = call.registry.get(node["class_type"])
    return spec is None or spec.not_idempotent


def _is_plain(call: Call, node: Mapping[str, Any]) -> bool:
    spec = call.registry.get(node["class_type"])
    return spec is not None and not any(one.is_list for one in spec.outputs)
