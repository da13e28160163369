"""Default prompts are ones that the embedded model was trained on; the docs list its words."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import word_lists
from templates import TEMPLATES, is_embedded, read, twin
from videoldm.core.families.embedded import worlds
from videoldm.core.families.embedded.worlds import driving, shapes
from videoldm.core.graph.widgets import read_widgets
from videoldm.core.text.known_words import words_of
from videoldm.nodes import boxes, node_registry, segments

ROOT = Path(__file__).resolve().parents[2]
EMBEDDED = [file for file in TEMPLATES if is_embedded(twin(file))]
BLUEPRINTS = sorted((ROOT / "subgraphs").glob("*.json"))
WITHOUT_PROMPTS = {
    "temporal_decode", "Temporal Decode (Video LDM)", "Inject Temporal Layers (Video LDM)",
}  # fmt: skip


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


def can_be_fulfilled(prompt: str) -> bool:
    """Whether the worlds have scenes that match the prompt: circles do not rotate, two objects
    differ, each lane is on the road and holds at most one car, and no car is black at night."""
    things = re.findall(rf"a ({any_of(shapes.COLORS)}) ({any_of(shapes.SHAPES)})", prompt)
    cars = re.findall(r"a (\w+) car in the (\w+) lane", prompt)
    lanes = [lane for _, lane in cars]
    road = driving.LANE_NAMES[3 if "three lane" in prompt else 2]
    return (
        is_known(prompt)
        and "circle rotates" not in prompt
        and len(things) == len(set(things))
        and lanes == [lane for lane in road if lane in lanes]
        and not ("at night" in prompt and "black" in dict(cars))
    )


def test_the_grammar_is_that_of_the_captions():
    for world in (shapes, driving):
        for seed in range(50):
            scene = world.sample(seed)
            assert can_be_fulfilled(world.caption(scene)), world.caption(scene)
            assert can_be_fulfilled(world.caption(scene, motion=False))
    assert not is_known("a red circle moves right on a white background")


@pytest.mark.parametrize(
    "prompt",
    [
        "a red circle rotates on a black background",
        "a red star grows and a red star moves left on a black background",
        "driving on a two lane road by day, a red car in the middle lane",
        "driving on a two lane road by day, a red car in the left lane, a red car in the left lane",
        "driving on a three lane road at night, a black car in the left lane",
    ],
)
def test_what_no_scene_looks_like_cannot_be_fulfilled(prompt):
    assert is_known(prompt) and not can_be_fulfilled(prompt)


def test_default_segments_and_boxes_can_be_fulfilled():
    prompts = [one["prompt"] for one in json.loads(segments.EXAMPLE)]
    assert prompts and all(map(can_be_fulfilled, prompts))
    labels = {f"{color} car" for color in driving.CAR_COLORS}
    assert {one["label"] for one in json.loads(boxes.EXAMPLE)} <= labels


@pytest.mark.parametrize("file", EMBEDDED, ids=lambda file: file.stem)
def test_prompts_of_the_templates_can_be_fulfilled(file):
    checked = sum(check(node["inputs"]) for node in twin(file).values())
    assert bool(checked) is (file.stem not in WITHOUT_PROMPTS)


@pytest.mark.parametrize("file", BLUEPRINTS, ids=lambda file: file.stem)
def test_prompts_of_the_blueprints_can_be_fulfilled(file):
    checked = sum(
        check(read_widgets(node, REGISTRY[node["type"]]))
        for definition in read(file)["definitions"]["subgraphs"]
        for node in definition["nodes"]
    )
    assert bool(checked) is (file.stem not in WITHOUT_PROMPTS)


def test_default_prompts_of_the_nodes_can_be_fulfilled():
    defaults = {id: {one.name: one.default for one in spec.inputs} for id, spec in REGISTRY.items()}
    checked = {id for id, inputs in defaults.items() if check(inputs)}
    assert checked >= {"VideoLDM_LongHorizonSegments", "VideoLDM_BoundingBoxes"}


def check(inputs: dict) -> int:
    """Check the prompts, segments and boxes among the inputs of a node, and return their number;
    wires are skipped."""
    texts = [inputs.get(name) for name in ("text", "prompt", "positive", "negative")]
    prompts = [text for text in texts if isinstance(text, str)]
    prompts += [segment["prompt"] for segment in _listed(inputs.get("segments"))]
    for prompt in prompts:
        assert can_be_fulfilled(prompt), prompt
    boxes = _listed(inputs.get("boxes"))
    for box in boxes:
        assert box["label"] in {f"{color} car" for color in driving.CAR_COLORS}, box
    return len(prompts) + len(boxes)


def _listed(text) -> list[dict]:
    return json.loads(text) if isinstance(text, str) else []


PAGES = {str(path.relative_to(ROOT)): (path, language) for path, language in word_lists.pages()}


@pytest.mark.parametrize("page", PAGES)
def test_pages_list_the_words_of_the_worlds(page):
    """`python tests/word_lists.py` writes them."""
    path, language = PAGES[page]
    text = path.read_text("utf-8")
    assert all(one in text for one in word_lists.paragraphs(language))


def test_lists_hold_every_word_and_no_other():
    for language, others in (("en", OTHERS), ("fr", OTHERS_FR)):
        told = {word for one in word_lists.paragraphs(language) for word in words_of(one)}
        assert told >= worlds.words() and told - worlds.words() <= others


OTHERS = set("shapes or that no circle does perhaps second one up to times not of".split())
OTHERS_FR = set("formes ou puis sauf un cercle au besoin et une deuxième forme conduite jusqu'à "
                "fois pas la nuit s'il y en trois".split())  # fmt: skip


def test_prompts_in_the_readme_can_be_fulfilled():
    prompts = re.findall(r'Prompt\.text="([^"]+)"', (ROOT / "README.md").read_text("utf-8"))
    assert prompts and all(map(can_be_fulfilled, prompts))
