"""Every shipped workflow in ComfyUI's frontend, in both renderings: loaded, queued, shown, saved.

The models are the toy family and the videos are small; what is tested is the way through.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from comfyui_server import ROOT
from test_workflows import MEAN, MOST, TOYS, lossless, pngs, read

FILES = sorted((ROOT / "workflows").glob("*.json"))
RUNNABLE = [file for file in FILES if "lavie" not in file.stem]
SMALL = {"steps": 1, "chunk": 4, "overlap": 1}
FEW = {"single clip": 5, "sparse first": 5, "sliding windows": 9, "prediction": 5,
       "hierarchical": 17}  # fmt: skip
"""Frames for each strategy; clips then have 4 frames, see `shrink`."""


def name(file) -> str:
    return file.stem


@pytest.fixture(autouse=True)
def no_errors(frontend):
    frontend.errors.clear()
    yield
    assert frontend.errors == []


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
    converted = frontend.prompt()
    twin = json.loads((ROOT / "workflows" / "api" / file.name).read_text())
    assert converted == twin


def essence(graph: dict, names: dict | None = None) -> dict:
    """What a workflow says, without what the frontend adds or counts anew: sizes, slots, version.

    names: the graph whose named values and properties count; others have more of them.
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
    kept["values"] = node.get("widgets_values") or []
    kept |= {"named": chosen("widgets_values_named"), "properties": chosen("properties")}
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
    """made(prompt, headless) are the frames of a run without ComfyUI, made once for both tabs."""
    known: dict[str, list] = {}

    def frames(prompt, headless):
        key = json.dumps(prompt, sort_keys=True)
        if key not in known:
            known[key] = [read(one) for path in headless(prompt) for one in pngs(path)]
        return known[key]

    return frames


def shrink(frontend) -> None:
    """Choose the toy family and small videos in the widgets, as one would by hand."""
    for kind, (widget, value) in TOYS.items():
        frontend.set(kind, widget, value)
    frontend.js("""() => {
        for (const node of app.graph.nodes) {
            const named = Object.fromEntries((node.widgets ?? []).map((w) => [w.name, w]));
            if (node.type === "VideoLDM_LoadTemporalLayers") {
                const part = named.layers.value.split(": ")[1].replaceAll(" ", "_");
                named.layers.value = `toy/${part}.safetensors`;
            }
            if (node.type === "VideoLDM_LoadVideo") {
                Object.assign(named.width, { value: 32 });
                Object.assign(named.height, { value: 32 });
                Object.assign(named.count, { value: 5 });
            }
        }
    }""")
    frontend.js("""([small, few]) => {
        for (const node of app.graph.nodes) {
            for (const widget of node.widgets ?? []) {
                if (widget.name in small) widget.value = small[widget.name];
            }
            if (node.type !== "VideoLDM_VideoSampler") continue;
            const named = Object.fromEntries(node.widgets.map((w) => [w.name, w]));
            named.width.value = named.height.value = 32;
            const window = named["strategy.window"];
            if (window) window.value = 4;
            named.frames.value = Math.min(named.frames.value, few[named.strategy.value]);
        }
    }""", [SMALL, FEW])  # fmt: skip


def check_video_plays(frontend) -> None:
    """The saved video is shown in a node: it has pictures, and time goes on in it."""
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
