"""The pack loads quickly in ComfyUI, which lists all of its nodes, templates and models."""

from __future__ import annotations

import re

import pytest
from comfyui_server import PACK, ROOT
from videoldm.nodes import NODES

IMPORT_WITHIN = 0.3
"""Seconds, on an idle machine."""


def test_pack_is_imported_in_no_time(comfyui):
    found = re.search(rf"([\d.]+) seconds(.*): .*{PACK}", comfyui.log)
    assert found and "FAILED" not in found[2], comfyui.log[-2000:]
    seconds = float(found[1])
    if seconds > IMPORT_WITHIN and comfyui.load > 1:
        pytest.skip(f"{seconds} s, but the load is {comfyui.load:.1f} per processor: measure again")
    assert seconds <= IMPORT_WITHIN


def test_every_node_is_listed_with_the_inputs_it_has_elsewhere(comfyui):
    listed = comfyui.get("/object_info")
    for node in NODES:
        schema = node.define_schema()
        info = listed[schema.node_id]
        names = [*info["input"].get("required", {}), *info["input"].get("optional", {})]
        assert sorted(names) == sorted(one.id for one in schema.inputs), schema.node_id
        assert info["display_name"] == schema.display_name
        assert len(info["output"]) == len(schema.outputs)


def test_every_workflow_is_listed_as_a_template(comfyui):
    templates = comfyui.get("/workflow_templates")[PACK]
    assert sorted(templates) == sorted(one.stem for one in (ROOT / "workflows").glob("*.json"))


def test_models_of_the_folders_are_offered(comfyui):
    info = comfyui.get("/object_info")
    layers = info["VideoLDM_LoadTemporalLayers"]["input"]["required"]["layers"]
    assert "toy/prediction.safetensors" in str(layers)
    assert "embedded: prediction" in str(layers)
