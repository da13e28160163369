"""Shipped workflows name their packs, models and values for the frontend (no ComfyUI needed)."""

from __future__ import annotations

from pathlib import Path

import pytest
from templates import NOTES, TEMPLATES, read, twin
from videoldm import __version__
from videoldm.core.graph import parse_workflow, ui_to_api
from videoldm.core.graph.widgets import read_widgets, write_widgets
from videoldm.core.training.recipe import RECIPES
from videoldm.nodes import node_registry

REGISTRY = node_registry()
LOADERS = ("VideoLDM_LoadImageModel", "VideoLDM_LoadTemporalLayers", "VideoLDM_LoadTemporalVAE",
           "VideoLDM_LoadUpsampler", "VideoLDM_LoadVideoModel")  # fmt: skip
each_file = pytest.mark.parametrize("file", TEMPLATES, ids=lambda file: file.stem)


def nodes_of(file) -> list[dict]:
    """The nodes that run, including those in subgraphs, without the frontend's notes."""
    workflow = read(file)
    inner = [node for one in subgraphs_of(workflow) for node in one["nodes"]]
    return [node for node in workflow["nodes"] + inner if node["type"] in REGISTRY]


def subgraphs_of(workflow: dict) -> list[dict]:
    return (workflow.get("definitions") or {}).get("subgraphs", [])


def unnumbered(definition: dict) -> dict:
    """The subgraph with its nodes renumbered in order."""
    new = {node["id"]: k for k, node in enumerate(definition["nodes"])}
    nodes = [node | {"id": new[node["id"]]} for node in definition["nodes"]]
    links = [link | {end: new.get(link[end], link[end]) for end in ("origin_id", "target_id")}
             for link in definition["links"]]  # fmt: skip
    return definition | {"nodes": nodes, "links": links, "state": None}


@each_file
def test_subgraphs_are_this_pack_s_blueprints_with_values_for_what_they_promote(file):
    workflow = read(file)
    blueprints = {}
    for path in (file.parents[1] / "subgraphs").glob("*.json"):
        (definition,) = subgraphs_of(read(path))
        blueprints[definition["id"]] = definition
    own = {one["id"]: one for one in subgraphs_of(workflow)}
    for key, definition in own.items():
        assert unnumbered(definition) == unnumbered(blueprints[key])
    ids = [node["id"] for one in (workflow, *own.values()) for node in one["nodes"]]
    assert len(set(ids)) == len(ids), "the frontend would number them anew"
    for node in workflow["nodes"]:
        if node["type"] not in REGISTRY and node["type"] not in NOTES:
            assert node["type"] in own and node["properties"]["cnr_id"] == "videoldm"
            assert len(node["widgets_values"]) == len(node["properties"]["proxyWidgets"])


def made(name: str) -> bool:
    """Whether `videoldm train` writes the file, which is then not published anywhere."""
    return (RECIPES / name).with_suffix(".toml").is_file()


@each_file
def test_nodes_name_their_pack_its_version_and_their_models(file):
    for node in nodes_of(file):
        properties = node["properties"]
        ours = node["type"].startswith("VideoLDM_")
        assert properties["cnr_id"] == ("videoldm" if ours else "comfy-core")
        assert properties["ver"] == (__version__ if ours else "0.33.0")
        if node["type"] in LOADERS:
            files = {one for one in node["widgets_values"] if Path(one).suffix}
            needed = {one for one in files if not one.startswith("embedded") and not made(one)}
            models = properties.get("models", [])
            assert {one["name"] for one in models} == needed
            assert all({"url", "directory"} <= one.keys() for one in models)


@each_file
def test_values_are_kept_by_position_and_by_name_and_agree(file):
    for node in nodes_of(file):
        spec = REGISTRY[node["type"]]
        listed, named = write_widgets(read_widgets(node, spec), spec)
        # Inputs that a node has gained since then follow the others and have defaults.
        kept, kept_named = node["widgets_values"], node["widgets_values_named"]
        assert kept == listed[: len(kept)] and kept_named.items() <= named.items()
        without_names = {k: v for k, v in node.items() if k != "widgets_values_named"}
        assert read_widgets(without_names, spec) == read_widgets(node, spec)


@each_file
def test_the_file_for_the_frontend_and_the_one_for_programs_are_the_same_workflow(file):
    programs = twin(file)
    frontend = ui_to_api(read(file), REGISTRY)
    assert frontend.keys() == programs.keys()
    for key, node in parse_workflow(programs, REGISTRY).nodes.items():
        assert node.class_type == frontend[key]["class_type"]
        kept = frontend[key]["inputs"]
        given = programs[key]["inputs"]
        assert {name: kept[name] for name in given} == given


@each_file
def test_there_is_a_thumbnail(file):
    assert file.with_suffix(".jpg").is_file()
