"""What a run gave, and the error that ends one inside a node."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .schema import Node, describe

Outputs = tuple[list, ...]


class NodeError(RuntimeError):
    """An error inside a node, as one sentence; `result` holds what was finished before it."""

    def __init__(self, node: Node, cause: str):
        super().__init__(f"{describe(node)}: {cause}")
        self.node_id, self.class_type, self.title = node.id, node.class_type, node.title
        self.cause = cause
        self.result: RunResult | None = None


@dataclass
class RunResult:
    """What a run gave: what output nodes show by node id, and which nodes ran or came from cache.

    `values` holds the outputs (a list of values per slot) of the nodes asked for as targets;
    `blocked` the message of each node that stopped what is behind it, `warnings` what nodes of the
    workflow warned of.
    """

    ui: dict[str, dict[str, Any]] = field(default_factory=dict)
    values: dict[str, Outputs] = field(default_factory=dict)
    executed: list[str] = field(default_factory=list)
    cached: list[str] = field(default_factory=list)
    blocked: dict[str, str] = field(default_factory=dict)
    warnings: dict[str, list[str]] = field(default_factory=dict)
