"""Subgraph blueprints, one per stage, are complete, listed by the server, and run in both hosts."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from comfyui_server import PACK, ROOT
from PIL import Image
from videoldm.core.graph import NodeSpec, OutputSpec, parse_workflow, to_ui, ui_to_api, validate
from videoldm.core.graph.widgets import read_widgets, write_widgets
from videoldm.nodes import node_registry

FILES = sorted((ROOT / "subgraphs").glob("*.json"))
REGISTRY = node_registry()
TOYS = {"model": "toy/image_model.safetensors", "upsampler": "toy/upsampler.safetensors",
        "vae": "toy/temporal_decoder.safetensors", "steps": 2, "frames": 6, "width": 32,
        "height": 32}  # fmt: skip
ENTRY, EXIT = -10, -20


def read(file) -> tuple[dict, dict]:
    """The workflow of a file, and the one subgraph that it defines."""
    workflow = json.loads(file.read_text())
    (definition,) = workflow["definitions"]["subgraphs"]
    return workflow, definition


def test_there_is_one_blueprint_per_stage():
    stages = {"VideoLDM_InjectTemporalLayers", "VideoLDM_VideoSampler", "VideoLDM_UpsampleVideo",
              "VideoLDM_InterpolateFrames", "VideoLDM_TemporalVAEDecodeToVideo"}  # fmt: skip
    used = {node["type"] for file in FILES for node in read(file)[1]["nodes"]}
    assert len(FILES) == len(stages) and stages <= used


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_blueprint_is_whole(file):
    workflow, definition = read(file)
    (instance,) = workflow["nodes"]
    assert instance["type"] == definition["id"] and definition["name"] == file.stem
    for way in ("inputs", "outputs"):
        shown = [(one["name"], one["type"]) for one in instance[way]]
        assert shown == [(one["name"], one["type"]) for one in definition[way]]
    nodes = {node["id"]: node for node in definition["nodes"]}
    for node in nodes.values():
        assert node["type"] in REGISTRY
        assert {"cnr_id", "ver", "Node name for S&R"} <= node["properties"].keys()
        assert "models" in node["properties"] or "Load" not in node["type"]
    for link in definition["links"]:
        origin, target = nodes.get(link["origin_id"]), nodes.get(link["target_id"])
        source = definition["inputs"] if origin is None else origin["outputs"]
        sink = definition["outputs"] if target is None else target["inputs"]
        assert (origin is None) == (link["origin_id"] == ENTRY)
        assert (target is None) == (link["target_id"] == EXIT)
        assert source[link["origin_slot"]]["type"] == link["type"]
        end = sink[link["target_slot"]]
        assert link["id"] in end.get("linkIds", [end.get("link")])
    for number, widget in instance["properties"]["proxyWidgets"]:
        assert widget in read_widgets(nodes[int(number)], REGISTRY[nodes[int(number)]["type"]])


def test_the_server_lists_the_blueprints_of_this_pack(comfyui):
    listed = comfyui.get("/global_subgraphs")
    ours = {one["name"]: key for key, one in listed.items()
            if one["info"]["node_pack"] == f"custom_nodes.{PACK}"}  # fmt: skip
    assert sorted(ours) == [file.stem for file in FILES]
    for file in FILES:
        data = comfyui.get(f"/global_subgraphs/{ours[file.stem]}")["data"]
        assert json.loads(data) == json.loads(file.read_text())


# --------------------------------------------------------------------------------------------------
# Nodes around each blueprint, which is node 1: its inputs, and an output node.

CLIP = {"class_type": "VideoLDM_LoadVideo", "inputs": {
    "file": "rendered: shapes", "count": 3, "width": 16, "height": 16}}  # fmt: skip
IMAGE_MODEL = {"class_type": "VideoLDM_LoadImageModel", "inputs": {}}
TEMPORAL_VAE = {"class_type": "VideoLDM_LoadTemporalVAE", "inputs": {}}


def save(node: str = "1") -> dict:
    return {"class_type": "VideoLDM_SaveVideo", "inputs": {"video": [node, 0], "format": "png"}}


def decode(samples: str, vae: list) -> dict:
    return {"class_type": "VideoLDM_TemporalVAEDecodeToVideo", "inputs": {
        "samples": [samples, 0], "vae": vae, "frame_rate": 8.0}}  # fmt: skip


def text(words: str) -> dict:
    return {"class_type": "CLIPTextEncode", "inputs": {"clip": ["2", 1], "text": words}}


AROUND = {
    "Inject Temporal Layers (Video LDM)": ({"model": ["2", 0]}, {
        "2": IMAGE_MODEL, "3": text("a red circle"), "4": text(""),
        "5": {"class_type": "VideoLDM_VideoSampler", "inputs": {
            "model": ["1", 0], "positive": ["3", 0], "negative": ["4", 0]}},
        "6": decode("5", ["2", 2]), "7": save("6")}),
    "Text to Long Video (Video LDM)": ({}, {"2": decode("1", ["1", 1]), "3": save("2")}),
    "Interpolate Frames (Video LDM)": ({"images": ["2", 0]}, {"2": CLIP, "3": save()}),
    "Upsample Video (Video LDM)": ({"images": ["2", 0]}, {"2": CLIP, "3": save()}),
    "Temporal Decode (Video LDM)": ({"samples": ["4", 0]}, {
        "2": CLIP, "3": IMAGE_MODEL, "5": save(),
        "4": {"class_type": "VideoLDM_TemporalVAEEncode", "inputs": {
            "images": ["2", 0], "vae": ["3", 2]}}}),
}  # fmt: skip


def used_in_a_workflow(file) -> dict:
    """A UI workflow of the blueprint and the nodes around it, with the toy family and few steps."""
    blueprint, definition = read(file)
    wires, nodes = AROUND[file.stem]
    own = definition["id"]
    shown = [OutputSpec(name=one["name"], type=one["type"]) for one in definition["outputs"]]
    spec = NodeSpec(id=own, inputs=_inputs(definition, wires), outputs=tuple(shown))
    api = {"1": {"class_type": own, "inputs": wires}, **nodes}
    workflow = to_ui(api, {**REGISTRY, own: spec})
    (instance,) = blueprint["nodes"]
    for node in workflow["nodes"]:
        if node["type"] == own:
            wired = {slot["name"]: slot for slot in node["inputs"]}
            node["inputs"] = [wired.get(slot["name"], slot) for slot in instance["inputs"]]
            node |= {key: instance[key] for key in ("properties", "widgets_values")}
    workflow["definitions"] = {"subgraphs": [definition]}
    for node in [*workflow["nodes"], *definition["nodes"]]:
        if node["type"] in REGISTRY:
            _make_small(node)
    return workflow


def _inputs(definition: dict, wires: dict) -> tuple:
    """Sockets for the inputs that something is wired to."""
    template = REGISTRY["VideoLDM_SaveVideo"].inputs[0]
    return tuple(replace(template, name=one["name"], type=one["type"], kind="socket")
                 for one in definition["inputs"] if one["name"] in wires)  # fmt: skip


def _make_small(node: dict) -> None:
    spec = REGISTRY[node["type"]]
    values = read_widgets(node, spec)
    values |= {name: value for name, value in TOYS.items() if name in values}
    if node["type"] == "VideoLDM_LoadTemporalLayers":
        part = values["layers"].partition(": ")[2].replace(" ", "_")
        values["layers"] = f"toy/{part}.safetensors"
    if node["type"] == "VideoLDM_LoadVideo":
        values |= {"count": 3, "width": 32, "height": 32}
    node["widgets_values"], node["widgets_values_named"] = write_widgets(values, spec)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_blueprint_in_a_workflow_expands_and_is_valid(file):
    graph = parse_workflow(used_in_a_workflow(file), REGISTRY)
    inner = [key for key in graph.nodes if key.startswith("1:")]
    assert len(inner) == len(read(file)[1]["nodes"])
    problems = validate(graph, REGISTRY)
    assert all("toy/" in str(one) for one in problems), problems


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_blueprint_gives_the_same_frames_in_both_hosts(comfyui, headless, file):
    workflow = used_in_a_workflow(file)
    there = comfyui.files(comfyui.run(ui_to_api(workflow, REGISTRY)))
    here = [file for path in headless(workflow) for file in sorted(path.glob("*.png")) or [path]]
    frames = [frames_of(there), frames_of(here)]
    distance = np.abs(np.subtract(*frames))
    assert len(frames[0]) > 1 and frames[0].std() > 1
    assert distance.max() <= 2 and distance.mean() <= 0.1


def frames_of(files) -> np.ndarray:
    pictures = [np.asarray(Image.open(path).convert("RGB")).astype(int) for path in files]
    return np.stack(pictures)
