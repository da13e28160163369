"""Inputs that are sockets in today's frontends and widgets in newer ones keep their values."""

from __future__ import annotations

import pytest
from videoldm.core.graph import ui_to_api, validate
from videoldm.core.graph.load import parse_workflow
from videoldm.core.graph.ui_write import to_ui
from videoldm.nodes import node_registry

EDIT = {"trim": {"start_time": 0.5, "duration": 1.0}, "crop": {"x": 0, "y": 0}}
VALUES = {"file": "rendered: shapes", "start": 0, "count": 8, "stride": 1}


def api(**more) -> dict:
    video = {"class_type": "VideoLDM_LoadVideo", "inputs": {**VALUES, **more}}
    shown = {"class_type": "VideoLDM_PreviewVideo", "inputs": {"video": ["1", 5]}}
    return {"1": video, "2": shown}


@pytest.fixture
def registry():
    return node_registry()


def test_an_edit_is_kept_on_the_way_to_the_ui_form_and_back(registry):
    written = to_ui(api(edit=EDIT), registry)
    (node,) = (one for one in written["nodes"] if one["type"] == "VideoLDM_LoadVideo")
    assert EDIT in node["widgets_values"]
    assert ui_to_api(written, registry)["1"]["inputs"]["edit"] == EDIT


@pytest.mark.parametrize("kept", ["widgets_values", "widgets_values_named"])
def test_an_edit_of_a_saved_workflow_is_read_from_either_list(registry, kept):
    written = to_ui(api(edit=EDIT, load="video only"), registry)
    for node in written["nodes"]:
        for name in {"widgets_values", "widgets_values_named"} - {kept}:
            node.pop(name)
    inputs = ui_to_api(written, registry)["1"]["inputs"]
    assert inputs["edit"] == EDIT
    assert {name: inputs[name] for name in VALUES} == VALUES
    assert inputs["load"] == "video only"


def test_a_workflow_without_one_has_none(registry):
    written = to_ui(api(), registry)
    for node in written["nodes"]:
        assert not any(isinstance(one, dict) for one in node["widgets_values"])
    assert "edit" not in ui_to_api(written, registry)["1"]["inputs"]


def test_a_read_edit_is_valid(registry):
    written = to_ui(api(edit=EDIT), registry)
    graph = parse_workflow(written, registry)
    assert graph.nodes["1"].inputs["edit"] == EDIT
    assert not validate(graph, registry)
