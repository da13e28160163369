"""Our OPTICAL_FLOW works in ComfyUI's nodes and its own in ours; see inside_optical_flow.py."""

from __future__ import annotations


def test_ours_is_asked_as_raft_is(inside):
    assert inside["emitted"] == [-1.0, 0.0]


def test_raft_of_comfyuis_own_loader_is_taken_at_any_size(inside):
    assert inside["accepted"] == {"same": True, "small": [1, 2, 50, 70]}
