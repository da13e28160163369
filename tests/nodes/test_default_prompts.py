"""Default prompts use words that the embedded model was trained on; help pages list them all."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from videoldm.core.families.embedded.worlds import driving, shapes
from videoldm.nodes import boxes, segments

ROOT = Path(__file__).resolve().parents[2]
EMBEDDED = sorted(file for file in (ROOT / "workflows" / "api").glob("*.json")
                  if "lavie" not in file.stem)  # fmt: skip


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
def test_prompts_of_the_workflows_can_be_fulfilled(file):
    for node in json.loads(file.read_text()).values():
        if isinstance(node["inputs"].get("text"), str):
            assert is_known(node["inputs"]["text"]), node["inputs"]["text"]


@pytest.mark.parametrize("page", ["LongHorizonSegments", "BoundingBoxes"])
@pytest.mark.parametrize("name", ["VideoLDM_{}.md", "VideoLDM_{}/fr.md"])
def test_help_lists_every_word(page, name):
    text = (ROOT / "web" / "docs" / name.format(page)).read_text("utf-8")
    words = [*shapes.COLORS, *shapes.SHAPES, *shapes.MOTIONS, *shapes.BACKGROUNDS,
             *driving.CAR_COLORS, *driving.EGO_MOTIONS, *driving.LIGHT_WORDS.values()]  # fmt: skip
    assert [word for word in words if word not in text] == []
