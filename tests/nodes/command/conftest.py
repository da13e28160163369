"""Tests of the command run with toy nodes only, in an empty folder."""

from __future__ import annotations

import pytest
from command_toys import RAN, REGISTRY


@pytest.fixture(autouse=True)
def only_toys(monkeypatch, tmp_path):
    """Run with the toy nodes only, in an empty folder."""
    for module in ("run", "listing"):
        monkeypatch.setattr(f"videoldm.nodes.command.{module}.load_registry", lambda: REGISTRY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VIDEOLDM_DEBUG", raising=False)
    RAN.clear()
