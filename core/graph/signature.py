"""Keys of the in-memory cache: a hash of everything that a node's output depends on."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from .schema import Link, Node, NodeSpec, Registry
from .validate import constants


class Signatures:
    """Signatures of the nodes of one run: equal signatures mean equal outputs.

    A signature covers the class, the constants, the node's fingerprint and the signatures upstream
    (and the id of nodes that read it). It is None for nodes that must run every time, and for all
    nodes downstream of them: not idempotent, fingerprint NaN or failing, values not plain JSON.
    """

    def __init__(self, nodes: Mapping[str, Node], registry: Registry, wait: Callable[[Any], Any]):
        self.nodes, self.registry, self.wait = nodes, registry, wait
        self.known: dict[str, str | None] = {}

    def of(self, node_id: str) -> str | None:
        """Return the signature of a node; visits upstream nodes without recursion."""
        path = {} if node_id in self.known else {node_id: None}
        while path:
            last = next(reversed(path))
            node = self.nodes.get(last)
            links = node.links.values() if node else ()
            unknown = [link.node_id for link in links if link.node_id not in self.known]
            ahead = next((source for source in unknown if source not in path), None)
            if ahead is not None:
                path[ahead] = None
            else:
                del path[last]
                self.known[last] = None if unknown or node is None else self._own(node)
        return self.known[node_id]

    def _own(self, node: Node) -> str | None:
        spec = self.registry.get(node.class_type)
        if spec is None or spec.not_idempotent:
            return None
        try:
            parts = [
                node.class_type,
                node.id if "unique_id" in spec.hidden else "",
                self._fingerprint(node, spec),
                {name: self._input(value) for name, value in node.inputs.items()},
            ]
            text = json.dumps(parts, sort_keys=True, allow_nan=False)
        except (TypeError, ValueError):
            return None
        return hashlib.sha256(text.encode()).hexdigest()

    def _input(self, value: Any) -> Any:
        if not isinstance(value, Link):
            return value
        upstream = self.known[value.node_id]
        if upstream is None:
            raise ValueError("what is upstream runs every time")
        return ["link", upstream, value.slot]

    def _fingerprint(self, node: Node, spec: NodeSpec) -> Any:
        if spec.fingerprint_inputs is None:
            return ""
        try:
            value = self.wait(spec.fingerprint_inputs(**constants(node, spec)))
        except Exception as error:
            # The node itself will report the error, with its name, when it runs.
            raise ValueError("no fingerprint") from error
        if isinstance(value, float) and math.isnan(value):
            raise ValueError("NaN means: always run")
        return value if isinstance(value, (str, int, float, list, dict, bool)) else repr(value)
