"""Default prompts use words that the embedded model was trained on; help pages list them all."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from templates import TEMPLATES, is_embedded, read, twin
from videoldm.core.families.embedded.worlds import driving, shapes
from videoldm.core.graph.widgets import read_widgets
from videoldm.nodes import boxes, node_registry, segments

ROOT = Path(__file__).resolve().parents[2]
EMBEDDED = [file for file in TEMPLATES if is_embedded(twin(file))]
BLUEPRINTS = sorted((ROOT / "subgraphs").glob("*.json"))


REGISTRY = node_registry()


def any_of(words) -> str:
    return f"(?:{'|'.join(map(re.escape, words))})"


THING = rf"a {any_of(shapes.COLORS)} {any_of(shapes.SHAPES)}(?: {any_of(shapes.MOTIONS)})?"
SHAPES = rf"{THING}(?: and {THING})? on a {any_of(shapes.BACKGROUNDS)} background"
CAR = rf", a {any_of(driving.CAR_COLORS)} car in the (?:left|middle|right) lane"
DRIVING = (rf"driving on a (?:two|three) lane road {any_of(driving.LIGHT_WORDS.values())}(?:{CAR})*"
           rf"(?:, the camera {any_of(driving.EGO_MOTIONS)})?")  # fmt: skip


def is_known(prompt: str) -> bool:
    return prompt == "" or re.fullmatch(f"{SHAPES}|{DRIVING}", prompt) is not None


def test_the_grammar_is_that_of_the_captions():
    for world in (shapes, driving):
        for seed in range(50):
            scene = world.sample(seed)
            assert is_known(world.caption(scene)), world.caption(scene)
            assert is_known(world.caption(scene, motion=False))
    assert not is_known("a red circle moves right on a white background")


def test_default_segments_and_boxes_can_be_fulfilled():
    prompts = [one["prompt"] for one in json.loads(segments.EXAMPLE)]
    assert prompts and all(map(is_known, prompts))
    labels = {f"{color} car" for color in driving.CAR_COLORS}
    assert {one["label"] for one in json.loads(boxes.EXAMPLE)} <= labels


@pytest.mark.parametrize("file", EMBEDDED, ids=lambda file: file.stem)
def test_prompts_of_the_templates_can_be_fulfilled(file):
    for node in twin(file).values():
        check(node["inputs"])


@pytest.mark.parametrize("file", BLUEPRINTS, ids=lambda file: file.stem)
def test_prompts_of_the_blueprints_can_be_fulfilled(file):
    for definition in read(file)["definitions"]["subgraphs"]:
        for node in definition["nodes"]:
            check(read_widgets(node, REGISTRY[node["type"]]))


@pytest.mark.parametrize("spec", REGISTRY.values(), ids=lambda spec: spec.id)
def test_default_prompts_of_the_nodes_can_be_fulfilled(spec):
    check({one.name: one.default for one in spec.inputs})


def check(inputs: dict) -> None:
    """Prompts, segments and boxes among the inputs of a node; wires are none."""
    for name in ("text", "prompt", "positive", "negative"):
        if isinstance(inputs.get(name), str):
            assert is_known(inputs[name]), inputs[name]
    for segment in _listed(inputs.get("segments")):
        assert is_known(segment["prompt"]), segment
    for box in _listed(inputs.get("boxes")):
        assert box["label"] in {f"{color} car" for color in driving.CAR_COLORS}, box


def _listed(text) -> list[dict]:
    return json.loads(text) if isinstance(text, str) else []


@pytest.mark.parametrize("page", ["LongHorizonSegments", "BoundingBoxes"])
@pytest.mark.parametrize("name", ["VideoLDM_{}.md", "VideoLDM_{}/fr.md"])
def test_help_lists_every_word(page, name):
    text = (ROOT / "web" / "docs" / name.format(page)).read_text("utf-8")
    words = [*shapes.COLORS, *shapes.SHAPES, *shapes.MOTIONS, *shapes.BACKGROUNDS,
             *driving.CAR_COLORS, *driving.EGO_MOTIONS, *driving.LIGHT_WORDS.values()]  # fmt: skip
    assert [word for word in words if word not in text] == []
