"""ComfyUI reuses the cached chunks of earlier runs, under the same keys as without ComfyUI."""

from __future__ import annotations

import copy
import json
import time
from pathlib import Path

import pytest
from comfyui_server import Listener
from kill.flows import flows, segmented
from videoldm.core.tasks.kept_runs import OUTPUT

RUNS = "output/videoldm_runs"
NAMES = {
    "embedded": "toy/image_model.safetensors",
    "embedded: text to video": "toy/text_to_video.safetensors",
    "embedded: prediction": "toy/prediction.safetensors",
    "embedded: interpolation": "toy/interpolation.safetensors",
}
"""The toy file in the server's models folder for each embedded model."""


def of_toys(flow: dict) -> dict:
    flow = copy.deepcopy(flow)
    for node in flow.values():
        inputs = node["inputs"]
        inputs |= {name: NAMES[inputs[name]] for name in ("model", "layers")
                   if isinstance(inputs.get(name), str)}  # fmt: skip
        inputs |= {"upsampler": "toy/upsampler.safetensors"} if "upsampler" in inputs else {}
    return flow


def chunks(base: Path) -> set[Path]:
    return {path for path in base.glob(f"{RUNS}/*/*.safetensors") if OUTPUT not in path.name}


def graphs(base: Path) -> set[tuple[str, str]]:
    """(node, key of its graph) of each stored run."""
    told = [json.loads(path.read_text()) for path in base.glob(f"{RUNS}/*/run.json")]
    return {(one["node"], one["graph"]) for one in told}


@pytest.fixture
def run(comfyui):
    """run(flow) clears ComfyUI's caches, queues a workflow, and returns (the video's bytes, the
    number of chunks computed)."""

    def call(flow):
        comfyui.clear()
        before = chunks(comfyui.base)
        (file,) = comfyui.files(comfyui.run(of_toys(flow)))
        return file.read_bytes(), len(chunks(comfyui.base) - before)

    return call


def test_what_was_finished_is_taken(run):
    flow = flows()["prediction"]
    first, made = run(flow)
    again, made_again = run(flow)
    assert (made, made_again) == (11, 0) and again == first


def test_one_segment_again(run):
    segments = [("a red circle", 1), ("a blue square", 2), ("a red car", 3)]
    first, made = run(segmented(*segments))
    other, some = run(segmented(*segments[:2], ("a red car", 4)))
    assert 0 < some < 0.6 * made and other != first
    assert run(segmented(*segments)) == (first, 0)


@pytest.mark.parametrize("name", ["upsampling, video", "images"])
def test_every_stage_that_makes_frames_takes_its_own(run, name):
    first, made = run(flows()[name])
    assert made > 3 and run(flows()[name]) == (first, 0)


def executed(server, flow) -> list[str]:
    """The ids of the nodes that run after ComfyUI's caches were cleared."""
    server.clear()
    listener = Listener(server)
    server.wait(server.queue(of_toys(flow), listener.client))
    listener.close()
    told = (one for one in listener.messages if isinstance(one, dict))
    return [one["data"]["node"] for one in told
            if one["type"] == "executing" and one["data"]["node"]]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("single clip", {"7", "8", "9"}),
        ("interpolation", {"6", "7", "8", "9"}),
        ("upsampling, video", {"5", "6", "9"}),
        ("images", {"7", "8", "9"}),
    ],
)
def test_nothing_is_loaded_for_stages_that_are_finished(comfyui, name, needed):
    flow = flows()[name]
    flow[min(needed - {"5"})]["inputs"]["seed"] = 9
    assert set(executed(comfyui, flow)) > needed
    assert set(executed(comfyui, flow)) == needed


@pytest.mark.slow
def test_a_server_that_is_killed_goes_on_when_the_workflow_is_queued_again(run, mortal_comfyui):
    flow, server = flows()["prediction"], mortal_comfyui
    flow["7"]["inputs"]["seed"] = 8  # No other test has cached chunks of it.
    expected, made = run(flow)
    server.queue(of_toys(flow))
    until = time.monotonic() + 300
    while len(chunks(server.base)) < 4 and time.monotonic() < until:
        time.sleep(0.005)
    server.kill()
    finished = {path: path.stat().st_ino for path in chunks(server.base)}
    assert 4 <= len(finished) < made
    server.start()
    (file,) = server.files(server.run(of_toys(flow)))
    assert file.read_bytes() == expected
    assert len(chunks(server.base)) == made
    # Rewriting a chunk would give it another inode.
    assert {path: path.stat().st_ino for path in finished} == finished
    there = [path for path in file.parent.iterdir() if path.is_file()]
    assert there == [file], "what the killed run had begun is gone"


def test_both_hosts_form_the_same_keys(run, headless, comfyui, tmp_path):
    flow = flows()["sliding windows"]
    run(flow)
    headless(of_toys(flow))
    here, there = graphs(tmp_path), graphs(comfyui.base)
    assert len(here) == 2 and here <= there
