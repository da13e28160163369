"""The result of a run, and the error raised by a failing node."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .schema import Node, describe

Outputs = tuple[list, ...]


class NodeError(RuntimeError):
    """An error in a node, as one sentence; `result` is the partial result of the run."""

    def __init__(self, node: Node, cause: str):
        super().__init__(f"{describe(node)}: {cause}")
        self.node_id, self.class_type, self.title = node.id, node.class_type, node.title
        self.cause = cause
        self.result: RunResult | None = None


@dataclass
class RunResult:
    """The result of a run, by node id.

    ui: the UI outputs. values: the outputs (a list of values per slot) of the nodes requested as
    targets. executed, cached: the nodes that ran, or whose outputs came from the cache. blocked:
    the message of each blocked node. warnings: warnings of the workflow's nodes.
    """

    ui: dict[str, dict[str, Any]] = field(default_factory=dict)
    values: dict[str, Outputs] = field(default_factory=dict)
    executed: list[str] = field(default_factory=list)
    cached: list[str] = field(default_factory=list)
    blocked: dict[str, str] = field(default_factory=dict)
    warnings: dict[str, list[str]] = field(default_factory=dict)
