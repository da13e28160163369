"""What the engine shares with running nodes and hosts: events, progress, interruption, identity."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .api_format import graph_to_api, write_node
from .schema import Graph, Node, Registry


class Event(NamedTuple):
    """Something that happened during a run.

    `kind` is "node_start", "progress" (with `value` of `total`), "node_done", "node_cached",
    "warning" or "blocked" (both with `text`). Expanded nodes have ids of their own; `display_id` is
    the node of the workflow that they come from.
    """

    kind: str
    node_id: str
    class_type: str = ""
    title: str = ""
    value: float = 0
    total: float = 0
    display_id: str = ""
    text: str = ""


class Interrupted(BaseException):
    """The user stopped the run; `result` is the partial result. A BaseException, so that a node's
    `except Exception` does not swallow it."""

    result: Any = None


@dataclass(frozen=True)
class Call:
    """One call of a node, for code inside the node: read it with `current_call.get()`.

    index: of the call, if the node is called once per value of a list. prompt, registry: the
    running graph and its node types; None and empty outside a run.
    """

    node_id: str
    class_type: str
    index: int = 0
    hidden: Mapping[str, Any] = field(default_factory=dict)
    report: Callable[[float, float], None] = lambda value, total: None
    warn: Callable[[str], None] = lambda text: None
    interrupted: Callable[[], bool] = lambda: False
    prompt: DynamicPrompt | None = None
    registry: Registry = field(default_factory=dict)

    def progress(self, value: float, total: float) -> None:
        """Report progress within the node, and raise Interrupted if the user asked to stop."""
        self.report(value, total)
        self.check_interrupted()

    def check_interrupted(self) -> None:
        """Raise Interrupted when the user asked to stop."""
        if self.interrupted():
            raise Interrupted(f"interrupted in node {self.node_id} ({self.class_type})")


current_call: ContextVar[Call | None] = ContextVar("videoldm_current_call", default=None)


class DynamicPrompt:
    """The graph of a run including expanded nodes; the hidden input "dynprompt"."""

    def __init__(self, graph: Graph):
        self.original = graph
        self.nodes: dict[str, Node] = dict(graph.nodes)
        self.parents: dict[str, str] = {}

    def add(self, node: Node, parent_id: str) -> None:
        self.nodes[node.id] = node
        self.parents[node.id] = parent_id

    def has_node(self, node_id: str) -> bool:
        return node_id in self.nodes

    def get_node(self, node_id: str) -> dict[str, Any]:
        return write_node(self.nodes[node_id])

    def all_node_ids(self) -> set[str]:
        return set(self.nodes)

    def get_original_prompt(self) -> dict[str, Any]:
        return graph_to_api(self.original)

    def get_parent_node_id(self, node_id: str) -> str | None:
        return self.parents.get(node_id)

    def get_real_node_id(self, node_id: str) -> str:
        while node_id in self.parents:
            node_id = self.parents[node_id]
        return node_id

    get_display_node_id = get_real_node_id
