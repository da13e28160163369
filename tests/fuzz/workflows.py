"""Workflows in UI and API form: those of this repository, small ones, and frontend features."""

from __future__ import annotations

import copy
import json
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from . import flows, values

ROOT = Path(__file__).parents[2]


def make(rng: Random, folder: Path) -> list[list[str]]:
    """One workflow with a few mutations. Small ones are run, the others only validated."""
    quick = rng.random() < 0.5
    seed = copy.deepcopy(rng.choice(_quick() if quick else _published()))
    data = values.mutated(seed, rng, rng.choice((0, 1, 1, 2, 4)))
    (folder / "workflow.json").write_bytes(_encoded(data, rng))
    if not quick:
        return [_validate(rng)]
    settings = [f"--set={_setting(rng)}"] if rng.random() < 0.1 else []
    return [_validate(rng), flows.run_command(rng, "workflow.json", *settings)]


def _validate(rng: Random) -> list[str]:
    return ["validate", "workflow.json", *(["--json"] if rng.random() < 0.3 else [])]


def _setting(rng: Random) -> str:
    place = rng.choice(("1.file", "2.filename_prefix", "1.count", "nothing.at_all", "Sampler.seed"))
    return f"{place}={values.argument(rng)}"


def _encoded(data: Any, rng: Random) -> bytes:
    text = values.to_text(data)
    content = text.encode()
    roll = rng.random()
    if roll < 0.08:
        return values.broken(content, rng)
    if roll < 0.1:
        return text.encode(rng.choice(("utf-16", "utf-8-sig", "utf-32-le", "latin-1")), "replace")
    if roll < 0.12:
        return json.dumps({"workflow": text, "prompt": text}).encode()
    return content


@cache
def _published() -> list[Any]:
    files = sorted((ROOT / "workflows").rglob("*.json")) + sorted(ROOT.glob("subgraphs/*.json"))
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


@cache
def _quick() -> list[Any]:
    api = [flows.copy_clip(), flows.copy_clip(format="gif"), flows.clip_from_text(),
           flows.picture()]  # fmt: skip
    ui = [flows.ui_of(flow) for flow in api]
    return [*api, *ui, *(made(flows.ui_of(flows.copy_clip())) for made in FORMS)]


# --------------------------------------------------------------------------------------------------
# Frontend features. Each changes the UI form of a workflow that loads (1) and saves (2) a video.


def _wire(ui: dict) -> list:
    """The link of the images."""
    return next(link for link in ui["links"] if link[5] == "IMAGE")


def _put_between(ui: dict, kind: str, **more: Any) -> dict:
    """Insert a node with one input and one output into the link of the images."""
    wire = _wire(ui)
    link = ui["last_link_id"] + 1
    ui["nodes"].append({
        "id": 9, "type": kind, "mode": 0, "pos": [0, 0], "size": [100, 30], "properties": {},
        "inputs": [{"name": "", "type": "*", "link": wire[0]}],
        "outputs": [{"name": "", "type": "IMAGE", "links": [link]}], **more,
    })  # fmt: skip
    ui["links"].append([link, 9, 0, wire[3], wire[4], "IMAGE"])
    _node(ui, 2, wire)["link"] = link
    wire[3], wire[4] = 9, 0
    ui["last_node_id"], ui["last_link_id"] = 9, link
    return ui


def _node(ui: dict, node_id: int, wire: list) -> dict:
    node = next(one for one in ui["nodes"] if one["id"] == node_id)
    return next(slot for slot in node["inputs"] if slot.get("link") == wire[0])


def _reroute(ui: dict) -> dict:
    return _put_between(ui, "Reroute")


def _muted_reroute(ui: dict) -> dict:
    return _put_between(ui, "Reroute", mode=2)


def _bypassed(ui: dict) -> dict:
    return _put_between(ui, "ImageSharpenOfAnotherPack", mode=4)


def _muted(ui: dict) -> dict:
    ui["nodes"][0]["mode"] = 2
    return ui


def _primitive(ui: dict) -> dict:
    """A primitive node sets the number of frames."""
    link = ui["last_link_id"] + 1
    ui["nodes"].append({"id": 8, "type": "PrimitiveNode", "mode": 0, "inputs": [], "outputs": [
        {"name": "INT", "type": "INT", "links": [link], "widget": {"name": "count"}}],
        "widgets_values": [2, "fixed"], "properties": {}})  # fmt: skip
    loader = next(one for one in ui["nodes"] if one["id"] == 1)
    loader.setdefault("inputs", []).append(
        {"name": "count", "type": "INT", "link": link, "widget": {"name": "count"}}
    )
    ui["links"].append([link, 8, 0, 1, len(loader["inputs"]) - 1, "INT"])
    ui["last_link_id"] = link
    return ui


def _set_and_get(ui: dict) -> dict:
    wire = _wire(ui)
    ui["nodes"] += [
        {"id": 8, "type": "SetNode", "mode": 0, "widgets_values": ["frames"], "outputs": [],
         "inputs": [{"name": "IMAGE", "type": "IMAGE", "link": wire[0]}]},
        {"id": 9, "type": "GetNode", "mode": 0, "widgets_values": ["frames"], "inputs": [],
         "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [99]}]},
    ]  # fmt: skip
    _node(ui, 2, wire)["link"] = 99
    ui["links"].append([99, 9, 0, wire[3], wire[4], "IMAGE"])
    wire[3], wire[4] = 8, 0
    return ui


def _subgraph(ui: dict) -> dict:
    """The loader inside a subgraph that promotes its number of frames."""
    wire = _wire(ui)
    loader = next(one for one in ui["nodes"] if one["id"] == 1)
    loader["inputs"] = [{"name": "count", "type": "INT", "link": 5, "widget": {"name": "count"}}]
    ui["nodes"].remove(loader)
    definition = {
        "id": "a1b2", "name": "Loader", "version": 1, "revision": 0,
        "inputNode": {"id": -10}, "outputNode": {"id": -20},
        "inputs": [{"id": "i", "name": "count", "type": "INT", "linkIds": [5]}],
        "outputs": [{"id": "o", "name": "images", "type": "IMAGE", "linkIds": [6]}],
        "nodes": [loader],
        "links": [
            {"id": 5, "origin_id": -10, "origin_slot": 0, "target_id": 1, "target_slot": 0,
             "type": "INT"},
            {"id": 6, "origin_id": 1, "origin_slot": 0, "target_id": -20, "target_slot": 0,
             "type": "IMAGE"},
        ],
    }  # fmt: skip
    ui["definitions"] = {"subgraphs": [definition]}
    ui["nodes"].append({
        "id": 7, "type": "a1b2", "mode": 0, "properties": {"proxyWidgets": [["-1", "count"]]},
        "inputs": [{"name": "count", "type": "INT", "widget": {"name": "count"}, "link": None}],
        "outputs": [{"name": "images", "type": "IMAGE", "links": [wire[0]]}],
        "widgets_values": [2],
    })  # fmt: skip
    wire[1], wire[2] = 7, 0
    return ui


def _nested_subgraphs(ui: dict) -> dict:
    """Subgraphs of two others each: a small file that expands to 2**19 nodes."""
    levels = 18
    ui["definitions"] = {"subgraphs": [
        {"id": f"level{k}", "name": f"level {k}", "inputs": [], "outputs": [], "links": [],
         "nodes": [{"id": n, "type": f"level{k + 1}" if k < levels else "Reroute", "mode": 0}
                   for n in (1, 2)]} for k in range(levels + 1)]}  # fmt: skip
    ui["nodes"].append({"id": 7, "type": "level0", "mode": 0})
    return ui


FORMS = (_reroute, _muted_reroute, _bypassed, _muted, _primitive, _set_and_get, _subgraph,
         _nested_subgraphs)  # fmt: skip
