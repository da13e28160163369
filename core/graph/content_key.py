"""Keys for outputs stored on disk: a hash of everything that a node's output depends on.

The key covers the class and inputs of a node and of all nodes upstream, and the contents of the
files that they name, but not ids, titles or positions. Unlike `signature`, which also uses file
times, it is the same in every process.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

RawNode = Mapping[str, Any]
"""A node of an API prompt: {"class_type": ..., "inputs": {name: value or [id, slot]}}, optionally
with the result of its `fingerprint_inputs` under FINGERPRINT."""
FINGERPRINT = "is_changed"


class ContentKeys:
    """Content keys of the nodes of a prompt.

    node_of(id) -> the node or None. files(value) -> the digests of the files that an input value
    names. is_volatile(node) -> whether its output differs from run to run.
    """

    def __init__(
        self,
        node_of: Callable[[str], RawNode | None],
        files: Callable[[Any], Collection[str]],
        is_volatile: Callable[[RawNode], bool],
    ):
        self.node_of, self.files, self.is_volatile = node_of, files, is_volatile
        self.known: dict[str, str | None] = {}

    def of(self, node_id: str, *, without: Collection[str] = ()) -> str | None:
        """The key of a node, ignoring the inputs `without`; None if the node, or one upstream of
        the other inputs, is volatile, missing or part of a cycle."""
        node = self.node_of(node_id)
        if node is None:
            return None
        inputs = {key: value for key, value in node["inputs"].items() if key not in without}
        for source in _sources(inputs):
            self._learn(source)
        return self._own({**node, "inputs": inputs})

    def _learn(self, node_id: str) -> None:
        """Compute the keys of a node and of those upstream, without recursion."""
        path = {} if node_id in self.known else {node_id: None}
        while path:
            last = next(reversed(path))
            node = self.node_of(last)
            sources = [] if node is None else list(_sources(node["inputs"]))
            unknown = [one for one in sources if one not in self.known]
            ahead = next((one for one in unknown if one not in path), None)
            if ahead is not None:
                path[ahead] = None
                continue
            del path[last]
            self.known[last] = None if unknown or node is None else self._own(node)

    def _own(self, node: RawNode) -> str | None:
        if self.is_volatile(node):
            return None
        inputs = {}
        for name, value in node["inputs"].items():
            if not _is_link(value):
                inputs[name] = [value, sorted(self.files(value))]
                continue
            source = self.known.get(str(value[0]))
            if source is None:
                return None
            inputs[name] = ["link", source, value[1]]
        try:
            parts = [node["class_type"], inputs, node.get(FINGERPRINT)]
            text = json.dumps(parts, sort_keys=True, allow_nan=False)
        except (TypeError, ValueError):
            return None
        return hashlib.sha256(text.encode()).hexdigest()


def upstream(node_of: Callable[[str], RawNode | None], node_id: str) -> dict[str, RawNode]:
    """A node and everything it depends on, by id; missing nodes are left out."""
    found: dict[str, RawNode] = {}
    waiting = [node_id]
    while waiting:
        one = waiting.pop()
        node = None if one in found else node_of(one)
        if node is not None:
            found[one] = node
            waiting += _sources(node["inputs"])
    return found


def is_nan(value: Any) -> bool:
    """Whether a fingerprint is NaN, ComfyUI's way to say that the node must always run."""
    return isinstance(value, float) and math.isnan(value)


def _is_link(value: Any) -> bool:
    return (
        isinstance(value, (list, tuple))
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], int)
    )


def _sources(inputs: Mapping[str, Any]) -> Iterator[str]:
    return (str(value[0]) for value in inputs.values() if _is_link(value))
