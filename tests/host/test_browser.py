"""Every shipped workflow loads, runs, shows its video and saves in ComfyUI's frontend, in both
renderings, with the toy family as models and small videos.
"""

from __future__ import annotations

import json
import math
from itertools import combinations, pairwise

import numpy as np
import pytest
from templates import NOTES, TEMPLATES, TITLE, Box, is_embedded, twin
from test_workflows import MEAN, MOST, TOYS, lossless, pngs, read
from videoldm.nodes import node_registry


def has_toys(prompt: dict) -> bool:
    """Whether the toy family can replace the models: it has no networks made for video."""
    return any(node["class_type"] in TOYS for node in prompt.values())


FILES = TEMPLATES
REGISTRY = node_registry()
RUNNABLE = [file for file in FILES if is_embedded(twin(file)) and has_toys(twin(file))]
SMALL = {"steps": 1, "chunk": 4, "overlap": 1, "width": 32, "height": 32}
FEW = {"single clip": 5, "sparse first": 5, "sliding windows": 9, "prediction": 5,
       "hierarchical": 17, "rolling": 9}  # fmt: skip
"""Frames for each strategy, with windows of 4; see `shrink`."""


def name(file) -> str:
    return file.stem


pytestmark = pytest.mark.usefixtures("no_errors")


# Loading and saving.


@pytest.mark.parametrize("file", FILES, ids=name)
def test_loading_and_saving_loses_nothing(frontend, file):
    shipped = json.loads(file.read_text())
    frontend.load(shipped)
    saved = frontend.graph()
    frontend.shot(file.stem)
    assert essence(saved, shipped) == essence(shipped)
    frontend.load(saved)
    assert essence(frontend.graph()) == essence(saved)


@pytest.mark.parametrize("file", FILES, ids=name)
def test_the_frontend_converts_to_what_is_shipped_for_the_api(frontend, file):
    frontend.load(json.loads(file.read_text()))
    converted, given = frontend.prompt(), twin(file)
    assert converted.keys() == given.keys()
    for key, node in given.items():
        # Inputs that a node has gained since then have their defaults.
        inputs = {name: converted[key]["inputs"][name] for name in node["inputs"]}
        assert converted[key] | {"inputs": inputs} == node


# Looks.


DRAWN = """() => {
    const boxes = app.graph.nodes.map((n) => [Number(n.id), ...n.pos, ...n.size]);
    const wires = [...app.graph.links.values()].map((l) => [
        Number(l.origin_id), Number(l.target_id),
        [...app.graph.getNodeById(l.origin_id).getOutputPos(l.origin_slot)],
        [...app.graph.getNodeById(l.target_id).getInputPos(l.target_slot)],
    ]);
    return [boxes, wires, app.graph.groups.map((g) => [...g.pos, ...g.size])];
}"""


@pytest.mark.parametrize("file", FILES, ids=name)
def test_nodes_are_apart_and_in_their_groups_and_no_wire_is_behind_one(frontend, file):
    """As drawn, with the actual sizes of the nodes."""
    frontend.load(json.loads(file.read_text()))
    frontend.page.wait_for_timeout(500)
    # A title that equals the node's display name is not saved.
    titles = {one["id"]: one.get("title", one["type"]) for one in frontend.graph()["nodes"]}
    boxes, wires, groups = frontend.js(DRAWN)
    boxes = [(node, Box(x, y - TITLE, x + w, y + h)) for node, x, y, w, h in boxes]
    groups = [Box(x, y, x + w, y + h) for x, y, w, h in groups]
    notes = [one["id"] for one in frontend.graph()["nodes"] if one["type"] in NOTES]
    for node, box in boxes:
        assert sum(one.holds(box) for one in groups) == (node not in notes), titles[node]
        assert sum(one.overlaps(box) for one in groups) == (node not in notes), titles[node]
    for (one, box), (other, its) in combinations(boxes, 2):
        assert not box.overlaps(its), (titles[one], titles[other])
    for origin, target, start, end in wires:
        curve = list(spline(start, end))
        for node, box in boxes:
            if node not in (origin, target):
                behind = any(box.crosses(*part) for part in pairwise(curve))
                assert not behind, (titles[origin], titles[target], titles[node])
    assert "Error loading" not in frontend.page.inner_text("body")


def spline(start, end, parts: int = 24):
    """Points of a wire: a Bezier curve with horizontal handles of a quarter of its length."""
    reach = 0.25 * math.dist(start, end)
    handles = [start, (start[0] + reach, start[1]), (end[0] - reach, end[1]), end]
    for k in range(parts + 1):
        t = k / parts
        weights = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3
        x, y = (sum(w * p[axis] for w, p in zip(weights, handles, strict=True)) for axis in (0, 1))
        yield x, y


def essence(graph: dict, names: dict | None = None) -> dict:
    """A workflow without what the frontend adds or renumbers: sizes, slots, version.

    names: the graph whose named values and properties are compared; others may have more.
    """
    known = {node["id"]: node for node in (names or graph)["nodes"]}
    slots = {(node["id"], slot["link"]): slot["name"]
             for node in graph["nodes"] for slot in node.get("inputs") or []}  # fmt: skip
    links = [(one[1], one[2], one[3], slots.get((one[3], one[0]))) for one in graph["links"]]
    inner = (graph.get("definitions") or {}).get("subgraphs", [])
    return {
        "nodes": {node["id"]: _node(node, known[node["id"]]) for node in graph["nodes"]},
        "links": sorted(links),
        "groups": [group["title"] for group in graph.get("groups") or []],
        "subgraphs": sorted(one["id"] for one in inner),
    }


def _node(node: dict, known: dict) -> dict:
    def chosen(key: str) -> dict:
        return {name: (node.get(key) or {}).get(name) for name in known.get(key) or {}}

    kept = {key: node.get(key) for key in ("type", "title", "mode")}
    spec = REGISTRY.get(node["type"])
    kept["title"] = kept["title"] or (spec and spec.display_name)  # The display name is not saved.
    kept["values"] = (node.get("widgets_values") or [])[: len(known.get("widgets_values") or [])]
    kept |= {"named": chosen("widgets_values_named"), "properties": chosen("properties")}
    kept["properties"].pop("proxyWidgets", None)  # Newer frontends identify them by links.
    return kept | {"at": [round(one) for one in node["pos"]]}


# Running.


@pytest.mark.slow
@pytest.mark.parametrize("file", RUNNABLE, ids=name)
def test_a_workflow_runs_and_its_frames_are_those_of_videoldm_run(
    frontend, comfyui, headless, made, file
):  # fmt: skip
    frontend.load(json.loads(file.read_text()))
    shrink(frontend)
    before = essence(frontend.graph())
    comfyui.wait(frontend.queue(), within=900)
    check_video_plays(frontend)
    frontend.fit()
    frontend.shot(f"{file.stem}_done")
    assert essence(frontend.graph()) == before, "queueing changed the graph"

    frontend.set("VideoLDM_SaveVideo", "format", "png")
    prompt = frontend.prompt()
    history = comfyui.wait(frontend.queue(), within=900)
    there = [read(path) for path in comfyui.files(history) if path.suffix == ".png"]
    here = made(lossless(prompt), headless)
    distance = np.abs(np.stack(there).astype(int) - np.stack(here))
    print(f"{len(here)} frames, max {distance.max()}, mean {distance.mean():.5f} of 255")
    assert np.stack(here).std() > 1, "a plain colour would always agree"
    assert distance.max() <= MOST and distance.mean() <= MEAN


@pytest.fixture(scope="module")
def made():
    """made(prompt, headless) returns the frames of a run without ComfyUI, cached for both tabs."""
    known: dict[str, list] = {}

    def frames(prompt, headless):
        key = json.dumps(prompt, sort_keys=True)
        if key not in known:
            known[key] = [read(one) for path in headless(prompt) for one in pngs(path)]
        return known[key]

    return frames


def shrink(frontend) -> None:
    """Set the widgets to the toy family and small videos, as a user would."""
    frontend.js("""([toys, small, few, kinds]) => {
        const inner = (node) => (node.subgraph ? node.subgraph.nodes.flatMap(inner) : [])
            .concat(node);
        for (const node of app.graph.nodes.flatMap(inner)) {
            const named = Object.fromEntries((node.widgets ?? []).map((w) => [w.name, w]));
            const put = (name, value) => { if (named[name]) named[name].value = value; };
            for (const name in small) put(name, small[name]);
            for (const name in toys) if (node.type in kinds || node.subgraph) put(name, toys[name]);
            if (node.type === "VideoLDM_LoadTemporalLayers") {
                const part = named.layers.value.split(": ")[1].replaceAll(" ", "_");
                put("layers", `toy/${part}.safetensors`);
            }
            if (node.type === "VideoLDM_LoadVideo") put("count", named.count.value === 1 ? 1 : 5);
            if (node.type !== "VideoLDM_VideoSampler" && !(node.subgraph && named.frames)) continue;
            const most = few[named.strategy?.value ?? "hierarchical"];
            put("frames", Math.min(named.frames.value, most));
            put("strategy.window", 4);
            if (named.strategy?.value === "rolling") put("steps", 4);  // One for each frame.
        }
    }""", [dict(TOYS.values()), SMALL, FEW, dict.fromkeys(TOYS)])  # fmt: skip


def check_video_plays(frontend) -> None:
    """The saved video is shown in a node, has pictures, and plays."""
    frontend.page.wait_for_function(
        "() => [...document.querySelectorAll('video')].some((v) => v.videoWidth > 0)"
    )
    played = frontend.js("""async () => {
        const video = [...document.querySelectorAll('video')].find((v) => v.videoWidth > 0);
        video.muted = true;
        await video.play();
        return [video.videoWidth, video.duration];
    }""")
    assert played[0] >= 32 and played[1] > 0
