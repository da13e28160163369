"""Warnings and errors of nodes are shown in the nodes themselves, in both renderings."""

from __future__ import annotations

import pytest
from comfyui_server import RunFailed
from test_browser_nodes import open_api, sampler_graph

SAMPLER = "VideoLDM_VideoSampler"


pytestmark = pytest.mark.usefixtures("no_errors")


@pytest.fixture
def sampler(frontend):
    """sampler(seed, **inputs) opens a graph whose Video Sampler has a model without layers."""

    def load(seed: int, **inputs):
        own = seed + 1000 * (frontend.name == "nodes_2")  # Otherwise the second run is cached.
        open_api(frontend, sampler_graph(model=["1", 0], frames=3, steps=1, seed=own, **inputs))

    return load


def notes(frontend, kind: str) -> list[str]:
    """All notes of a kind, except those of Save Video about its frame rate."""
    found = frontend.page.locator(f".videoldm-{kind}").all_inner_texts()
    return [text for text in found if not text.startswith("frame_rate")]


def run(frontend, comfyui) -> None:
    comfyui.wait(frontend.queue(), within=600)
    frontend.page.wait_for_timeout(500)


def counts(graph: dict) -> dict[int, int]:
    return {node["id"]: len(node.get("widgets_values") or ()) for node in graph["nodes"]}


def test_a_warning_is_read_in_the_node_and_in_the_log(frontend, comfyui, sampler):
    sampler(31)
    saved = frontend.graph()
    run(frontend, comfyui)
    (text,) = notes(frontend, "warning")
    assert text.startswith("the model has no temporal layers, so that its 3 frames")
    assert text in comfyui.log
    assert frontend.page.locator(".videoldm-warning").first.is_visible()
    frontend.fit()
    frontend.shot("warning")
    assert counts(frontend.graph()) == counts(saved), "the note is no value of the node"

    frontend.set(SAMPLER, "frames", 1)
    run(frontend, comfyui)
    assert notes(frontend, "warning") == []


def test_an_error_is_read_in_the_node_until_the_next_run(frontend, comfyui, sampler):
    sampler(32, strategy="prediction")
    with pytest.raises(RunFailed, match="cannot be given frames"):
        run(frontend, comfyui)
    frontend.page.wait_for_timeout(1000)
    (text,) = notes(frontend, "error")
    assert text.startswith("the model cannot be given frames: inject temporal layers")
    frontend.page.keyboard.press("Escape")
    frontend.fit()
    frontend.shot("error")
    frontend.set(SAMPLER, "strategy", "single clip")
    run(frontend, comfyui)
    assert notes(frontend, "error") == []


def test_a_node_grows_for_its_notes_and_shrinks_again(frontend, sampler):
    sampler(33)
    tell = """([name, detail]) => {
        if (name) window.comfyAPI.api.api.dispatchCustomEvent(name, detail);
    }"""
    heights = []
    error = {"node_id": "3", "node_type": "VideoLDM_InjectTemporalLayers", "traceback": []}
    for name, detail in (
        (None, None),
        ("videoldm.warning", {"node": "3", "text": "7 frames look wrong"}),
        ("videoldm.warning", {"node": "3", "text": "7 frames look wrong"}),
        ("execution_error", error | {"exception_type": "KeyError", "exception_message": "'x'\n"}),
        ("executing", "3"),
        ("execution_start", {"prompt_id": "a"}),
    ):
        frontend.js(tell, [name, detail])
        frontend.page.wait_for_timeout(400)
        heights.append(frontend.js("() => app.graph.getNodeById(3).size[1]"))
        if name == "execution_error":
            assert notes(frontend, "error") == ["unexpected KeyError: 'x'"]
            assert notes(frontend, "warning") == ["7 frames look wrong"]
            frontend.shot("both_notes")
    none, one, same, two, error_alone, gone = heights
    assert none < one == same < two and none < error_alone <= two and gone == pytest.approx(none, 2)
    assert notes(frontend, "error") == notes(frontend, "warning") == []


def test_refused_numbers_are_read_in_the_node_until_the_next_try(frontend, comfyui, sampler):
    sampler(34)
    for widget, value in (("strategy", "sliding windows"), ("strategy.overlap", 16)):
        frontend.set(SAMPLER, widget, value)
        frontend.page.wait_for_timeout(300)
    frontend.queue_refused()
    frontend.page.locator(".videoldm-error").wait_for()
    assert notes(frontend, "error") == ["overlap 16 must be smaller than window 16"]
    frontend.shot("refused")
    frontend.set(SAMPLER, "strategy.overlap", 4)
    run(frontend, comfyui)
    assert notes(frontend, "error") == []


def test_core_s_own_sampler_gets_notes_of_our_layers(frontend, comfyui):
    inputs = {"model": ["3", 0], "positive": ["4", 0], "negative": ["5", 0], "seed": 5, "steps": 1,
              "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0,
              "latent_image": ["9", 0]}  # fmt: skip
    graph = sampler_graph()
    graph["6"] = {"class_type": "KSampler", "inputs": inputs}
    graph["9"] = {"class_type": "EmptyLatentImage",
                  "inputs": {"width": 32, "height": 32, "batch_size": 7}}  # fmt: skip
    inputs["seed"] += frontend.name == "nodes_2"
    open_api(frontend, graph)
    run(frontend, comfyui)
    (text,) = notes(frontend, "warning")
    assert text.startswith("7 frames are sampled together, but the temporal layers were trained")
