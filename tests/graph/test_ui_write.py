"""Laying out API prompts as UI workflows, and the round trips between the forms."""

from __future__ import annotations

import json

import pytest
from graph_toys import REGISTRY, api, full_api
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from videoldm.core.graph import WorkflowError, to_ui, ui_to_api


def bare(prompt: dict) -> dict:
    return {key: (raw["class_type"], raw["inputs"]) for key, raw in prompt.items()}


def test_saved_values_come_in_the_frontend_s_order_with_control_values_and_by_name() -> None:
    nodes = {n["id"]: n for n in to_ui(full_api(), REGISTRY)["nodes"]}
    assert nodes[3]["widgets_values"] == [5, "fixed", 4, 3.0, "heun", True]
    assert nodes[3]["widgets_values_named"] == {
        "seed": 5, "steps": 4, "cfg": 3.0, "sampler": "heun", "tiled": True,
    }  # fmt: skip
    images = to_ui(api(n1=("LoadImage", {"image": "b.png", "scale": 2.0})), REGISTRY)["nodes"]
    assert images[0]["widgets_values"] == ["b.png", 2.0, "image"]


def test_slots_links_and_properties_agree() -> None:
    models = [{"name": "a.safetensors", "url": "u", "directory": "checkpoints"}]
    workflow = to_ui(full_api(), REGISTRY, models=models, pack=lambda spec: ("videoldm", "1.2"))
    nodes = {n["id"]: n for n in workflow["nodes"]}
    assert len(workflow["links"]) == workflow["last_link_id"] == 4
    for number, origin, slot, target, at, kind in workflow["links"]:
        assert nodes[target]["inputs"][at]["link"] == number
        assert number in nodes[origin]["outputs"][slot]["links"]
        assert nodes[origin]["outputs"][slot]["type"] == kind
    properties = nodes[1]["properties"]
    assert properties == {"Node name for S&R": "Loader", "cnr_id": "videoldm", "ver": "1.2",
                          "models": models}  # fmt: skip
    assert workflow["models"] == models and workflow["version"] == 0.4
    assert workflow["groups"] == [] and workflow["last_node_id"] == 5
    assert json.loads(json.dumps(workflow)) == workflow


def test_wires_run_from_left_to_right_and_nodes_do_not_overlap() -> None:
    workflow = to_ui(full_api(), REGISTRY)
    boxes = {n["id"]: (*n["pos"], *n["size"]) for n in workflow["nodes"]}
    for _, origin, _, target, *_ in workflow["links"]:
        assert boxes[origin][0] + boxes[origin][2] < boxes[target][0]
    for one, (x, y, w, h) in boxes.items():
        for two, (u, v, *_) in boxes.items():
            assert one == two or not (x <= u < x + w and y <= v < y + h)
    assert sorted(n["order"] for n in workflow["nodes"]) == list(range(5))


def test_the_same_prompt_gives_the_same_file() -> None:
    assert to_ui(full_api(), REGISTRY) == to_ui(full_api(), REGISTRY)
    assert to_ui(full_api(), REGISTRY)["id"] != to_ui({}, REGISTRY)["id"]


@pytest.mark.parametrize(("prompt", "message"), [
    (api(n1=("Nope", {})), r"node 1 \(Nope\) is of an unknown type"),
    (api(n1=("Int", {"valeu": 3})), r'no widget for its input "valeu" \(did you mean "value"\?\)'),
    (api(n1=("Any", {"value": ["9", 0]})), 'wired to node 9 at its input "value"'),
    (api(n1=("Number", {"value": ["2", 0]}), n2=("Number", {"value": ["1", 0]})), "form a cycle"),
])  # fmt: skip
def test_what_cannot_be_laid_out_is_refused(prompt, message) -> None:
    with pytest.raises(WorkflowError, match=message):
        to_ui(prompt, REGISTRY)


@st.composite
def prompts(draw) -> dict:
    """Chains of toy nodes with any values, wired widgets, dynamic combos and subgraph-like ids."""
    ids = draw(st.lists(st.from_regex(r"[1-9][0-9]{0,2}(:[1-9])?", fullmatch=True),
                        min_size=7, max_size=7, unique=True))  # fmt: skip
    load, empty, steps, sample, decode, save, video = ids
    sampler = {"model": [load, 0], "latent": [empty, 0],
               "seed": draw(st.integers(0, 2**32 - 1)), "cfg": draw(st.floats(0, 30)),
               "steps": draw(st.just([steps, 0]) | st.integers(1, 100)),
               "sampler": draw(st.sampled_from(["euler", "heun", "ddim"])),
               "tiled": draw(st.booleans())}  # fmt: skip
    codec = draw(st.sampled_from([
        {"codec": "gif", "codec.colors": 3}, {"codec": "h264", "codec.crf": 1,
                                              "codec.encoding": "fast"},
        {"codec": "h264", "codec.crf": 51, "codec.encoding": "slow", "codec.encoding.passes": 7},
    ]))  # fmt: skip
    raw = {
        load: ("Loader", {"name": "b.safetensors"}), empty: ("Empty", {"width": 8}),
        steps: ("Int", {"value": draw(st.integers())}), sample: ("Sampler", sampler),
        decode: ("Decode", {"latent": [sample, 0]}),
        save: ("Save", {"images": [decode, 0], "prefix": draw(st.text())}),
        video: ("SaveVideo", {"images": [decode, 0], "fps": 8.0, **codec}),
    }  # fmt: skip
    title = draw(st.text(min_size=1, max_size=5))
    return {key: {"class_type": kind, "inputs": inputs, "_meta": {"title": title}}
            for key, (kind, inputs) in raw.items()}  # fmt: skip


@given(prompts())
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_api_to_ui_to_api_is_the_identity(prompt) -> None:
    workflow = to_ui(prompt, REGISTRY)
    assert ui_to_api(workflow, REGISTRY) == prompt
    # Readers that do not know the names (ComfyUI by default) must get the same from the positions.
    positional = {**workflow, "nodes": [dict(node) for node in workflow["nodes"]]}
    for node in positional["nodes"]:
        del node["widgets_values_named"]
    assert ui_to_api(positional, REGISTRY) == prompt


def test_ui_to_api_to_ui_to_api_is_stable_and_adds_defaults_once() -> None:
    sparse = api(n1=("Empty", {}), n2=("Decode", {"latent": ["1", 0]}),
                 n3=("Save", {"images": ["2", 0]}))  # fmt: skip
    first = ui_to_api(to_ui(sparse, REGISTRY), REGISTRY)
    again = ui_to_api(to_ui(first, REGISTRY), REGISTRY)
    assert first == again
    assert first["1"]["inputs"] == {"width": 64} and first["3"]["inputs"]["prefix"] == "video"


def test_array_values_and_wires_into_autogrow_sockets_survive() -> None:
    prompt = api(n1=("LoadImage", {"image": "a.png", "scale": 1.0}),
                 n2=("Many", {"images.image0": ["1", 0], "images.image1": ["1", 0]}),
                 n3=("Points", {"points": {"__value__": [[1, 2], [3, 4]]}}))  # fmt: skip
    assert bare(ui_to_api(to_ui(prompt, REGISTRY), REGISTRY)) == bare(prompt)
