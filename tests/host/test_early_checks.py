"""ComfyUI refuses invalid values when a prompt is queued, and warns during a run."""

from __future__ import annotations

import json

import pytest
from comfyui_server import Listener, RunFailed
from node_inputs import strategy
from toy_prompts import inject, ksampler, nodes, sampler


def answer(comfyui, prompt: dict) -> dict[str, list[str]]:
    """The error details of each node of a prompt that ComfyUI refuses."""
    with pytest.raises(RunFailed) as caught:
        comfyui.queue(prompt)
    errors = json.loads(str(caught.value))["node_errors"]
    return {key: [one["details"] for one in found["errors"]] for key, found in errors.items()}


def prompt(**changes) -> dict:
    graph = nodes(n11=("VideoLDM_SaveVideo", {
        "images": ["12", 0], "filename_prefix": "video/checks", "format": "mp4", "quality": 18,
        "frame_rate": 8.0,
    }), n12=("VAEDecode", {"samples": ["9", 0], "vae": ["1", 2]}))  # fmt: skip
    kind, inputs = sampler("1", **changes)
    graph["9"] = {"class_type": kind, "inputs": inputs}
    return graph


def test_numbers_that_do_not_fit_are_refused_at_once(comfyui):
    found = answer(comfyui, prompt(**strategy("sliding windows", overlap=16)))
    assert set(found) == {"9"} and len(set(found["9"])) == len(found["9"])
    assert all(one.endswith("overlap 16 must be smaller than window 16") for one in found["9"])
    found = answer(comfyui, prompt(**strategy("prediction", context_frames=16)))
    assert all("context_frames 16 must be smaller than window 16" in one for one in found["9"])
    found = answer(comfyui, prompt(**strategy("sparse first", first_frames=7)))
    assert all("first_frames 7 must not exceed frames 6" in one for one in found["9"])
    found = answer(comfyui, prompt(**strategy("hierarchical")))
    assert any("interpolation_model" in one for one in found["9"]), "its wire is missing"
    found = answer(comfyui, prompt(frames=0, strategy="slow"))
    assert all('input "frames" expected 1 to 100000, given 0' in one for one in found["9"])
    found = answer(comfyui, prompt(strategy="slow"))
    assert all('input "strategy" expected one of single clip, sparse' in one for one in found["9"])


def test_a_node_that_nothing_is_connected_to_is_refused(comfyui):
    graph = prompt()
    del graph["11"]["inputs"]["images"]
    ((details,),) = answer(comfyui, graph).values()
    assert "got none" in details


def warnings_of(comfyui, graph: dict) -> list[tuple[str, str]]:
    listener = Listener(comfyui)
    comfyui.wait(comfyui.queue(graph, listener.client))
    listener.close()
    told = [one["data"] for one in listener.messages if isinstance(one, dict)
            and one["type"] == "videoldm.warning"]  # fmt: skip
    return [(one["node"], one["text"]) for one in told]


def test_a_run_without_layers_warns_once_and_goes_on(comfyui):
    kind, inputs = sampler("1")
    graph = prompt()
    graph["9"] = {"class_type": kind, "inputs": {**inputs, "seed": 77}}
    before = len(comfyui.log)
    ((node, text),) = warnings_of(comfyui, graph)
    assert node == "9" and text.startswith("the model has no temporal layers, so that its 6 frames")
    assert comfyui.log[before:].count(text) == 1


def test_core_s_sampler_warns_of_too_long_a_clip_once_for_all_steps(comfyui):
    graph = prompt()
    kind, inputs = ksampler("3")
    graph["3"] = dict(zip(("class_type", "inputs"), inject(), strict=True))
    graph["8"] = {"class_type": kind, "inputs": {**inputs, "seed": 78}}
    graph["12"]["inputs"]["samples"] = ["8", 0]
    ((node, text),) = warnings_of(comfyui, graph)
    assert node == "8" and text.startswith("6 frames are sampled together")
