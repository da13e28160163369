"""The settings of the Video Sampler's strategies in the browser, in both renderings."""

from __future__ import annotations

import json

import pytest
from comfyui_server import ROOT
from node_inputs import strategy
from test_browser_nodes import open_api, sampler_graph
from videoldm.nodes.choices import STRATEGIES

SAMPLER = "VideoLDM_VideoSampler"
WIDGETS = """() => app.graph.nodes.find((n) => n.type === "VideoLDM_VideoSampler")
    .widgets.map((w) => w.name)"""


pytestmark = pytest.mark.usefixtures("no_errors")


def of_strategy(names) -> set[str]:
    return {name for name in names if name.startswith("strategy.")}


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_settings_of_the_chosen_strategy_are_shown_and_no_others(frontend, name):
    open_api(frontend, sampler_graph())
    frontend.set(SAMPLER, "strategy", name)
    frontend.page.wait_for_timeout(300)
    expected = {key for key in strategy(name) if key.startswith("strategy.")}
    assert of_strategy(frontend.js(WIDGETS)) == expected
    sent = frontend.prompt()["6"]["inputs"]
    assert {key: sent[key] for key in strategy(name)} == strategy(name)
    assert of_strategy(sent) == expected
    frontend.fit()
    frontend.shot(f"strategy_{name.replace(' ', '_')}")


def test_sparse_first_can_be_chosen_for_the_first_segment(frontend):
    open_api(frontend, sampler_graph())
    for widget, value in (
        ("strategy", "prediction"), ("strategy.first_segment", "sparse first"),
        ("strategy.first_segment.first_frames", 3), ("strategy.window", 8),
    ):  # fmt: skip
        frontend.set(SAMPLER, widget, value)
        frontend.page.wait_for_timeout(300)
    chosen = strategy(
        "prediction", window=8, first_segment="sparse first", first_segment__first_frames=3
    )
    saved = frontend.graph()
    frontend.load(saved)
    sent = frontend.prompt()["6"]["inputs"]
    assert {key: sent[key] for key in chosen} == chosen, "also after saving and opening"


@pytest.mark.parametrize("workflow", ["text_to_video", "long_video", "driving_simulation"])
def test_a_workflow_opens_as_its_twin(frontend, workflow):
    """Values and wires of the Video Sampler's inputs are those of the API file."""
    frontend.load(json.loads((ROOT / "workflows" / f"{workflow}.json").read_text()))
    twin = json.loads((ROOT / "workflows" / "api" / f"{workflow}.json").read_text())
    sent = frontend.prompt()
    for key, node in twin.items():
        if node["class_type"] == SAMPLER:
            # Inputs that the node has gained since then have their defaults.
            assert {name: sent[key]["inputs"][name] for name in node["inputs"]} == node["inputs"]
    frontend.shot(f"strategy_of_{workflow}")
