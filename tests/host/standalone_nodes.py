"""Calls single nodes of the standalone host on the files of a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from node_inputs import arguments
from videoldm.nodes import node_registry
from videoldm.nodes.host import host


@contextmanager
def standalone_nodes(base: Path) -> Iterator[Callable[..., tuple]]:
    """Yields call(id, **inputs), which runs a node, with defaults, on the models below `base`."""
    before = host.folders, host.policy, host.embed_metadata
    host.configure(models=[base / "models"], input=base / "input", output=base / "output",
                   device="cpu", dtype="fp32")  # fmt: skip
    registry = node_registry()

    def call(node_id: str, **inputs) -> tuple:
        spec = registry[node_id]
        return spec.execute(**arguments(spec, inputs)).values

    yield call
    host.folders, host.policy, host.embed_metadata = before
