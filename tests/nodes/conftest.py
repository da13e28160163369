"""Nodes on the standalone host, with the toy family as the embedded models."""

from __future__ import annotations

import pytest
from videoldm.core.families.embedded import loading as embedded
from videoldm.nodes.host import host


@pytest.fixture
def toys(toy_family, tmp_path, monkeypatch):
    """The standalone host with the toy family, on the CPU, in folders of its own."""
    monkeypatch.setattr(embedded, "FOLDER", toy_family)
    for name in ("input", "output"):
        (tmp_path / name).mkdir()
    before = host.folders, host.policy, host.embed_metadata
    host.configure(models=[tmp_path / "models"], input=tmp_path / "input",
                   output=tmp_path / "output", device="cpu")  # fmt: skip
    host.round_trips.reset()
    yield host
    host.folders, host.policy, host.embed_metadata = before


@pytest.fixture
def run(toys):
    """run(id, **inputs) executes a node with its defaults and returns its outputs; inputs that a
    dynamic combo opens have dotted names."""
    from node_inputs import arguments
    from videoldm.nodes import node_registry

    registry = node_registry()

    def call(node_id, **inputs):
        spec = registry[node_id]
        result = spec.execute(**arguments(spec, inputs))
        return result.values[0] if len(result.values) == 1 else result

    return call
