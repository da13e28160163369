"""Templates are legible: notes and groups, no overlapping nodes, no links hidden behind nodes."""

from __future__ import annotations

import re
from itertools import combinations

import pytest
import word_lists
from templates import (
    NOTES,
    TEMPLATES,
    Box,
    box_of,
    end_of,
    group_box,
    is_embedded,
    read,
    start_of,
    twin,
)
from videoldm.core.graph import parse_workflow, validate
from videoldm.nodes import node_registry

REGISTRY = node_registry()
each_template = pytest.mark.parametrize("file", TEMPLATES, ids=lambda file: file.stem)


def nodes_of(workflow) -> list[dict]:
    return [node for node in workflow["nodes"] if node["type"] not in NOTES]


def note_of(workflow) -> str:
    (note,) = [node for node in workflow["nodes"] if node["type"] in NOTES]
    return note["widgets_values"][0]


@each_template
def test_no_node_is_over_another(file):
    nodes = read(file)["nodes"]
    for one, other in combinations(nodes, 2):
        assert not box_of(one).overlaps(box_of(other)), (one["title"], other["title"])


@each_template
def test_every_node_is_in_one_group_and_groups_are_apart(file):
    workflow = read(file)
    groups = {group["id"]: group_box(group) for group in workflow["groups"]}
    titles = [group["title"] for group in workflow["groups"]]
    assert len(set(titles)) == len(titles) and all(titles)
    for one, other in combinations(groups.values(), 2):
        assert not one.overlaps(other)
    for node in nodes_of(workflow):
        assert sum(box.holds(box_of(node)) for box in groups.values()) == 1, node["title"]
        assert sum(box.overlaps(box_of(node)) for box in groups.values()) == 1, node["title"]


@each_template
def test_the_title_of_a_group_ends_in_it(file):
    """At a font size of 24 pixels, a letter is about 11 pixels wide."""
    for group in read(file)["groups"]:
        assert 11 * len(group["title"]) < group["bounding"][2], group["title"]


@each_template
def test_a_prompt_is_above_its_negative(file):
    workflow = read(file)
    groups = [group_box(group) for group in workflow["groups"]]
    texts = [one for one in nodes_of(workflow) if one["type"] == "CLIPTextEncode"]
    for negative in [one for one in texts if "egative" in one["title"]]:
        (group,) = [one for one in groups if one.holds(box_of(negative))]
        for other in texts:
            if "egative" not in other["title"] and group.holds(box_of(other)):
                assert other["pos"][1] < negative["pos"][1], negative["title"]


@each_template
def test_no_wire_runs_behind_a_node(file):
    workflow = read(file)
    nodes = {node["id"]: node for node in nodes_of(workflow)}
    for link, origin, slot, target, *_ in workflow["links"]:
        start, end = start_of(nodes[origin], slot), end_of(nodes[target], link)
        names = nodes[origin]["title"], nodes[target]["title"]
        assert start[0] < end[0], f"from {names[0]} back to {names[1]}"
        for node in nodes.values():
            if node["id"] not in (origin, target):
                assert not box_of(node).crosses(start, end), f"{names} behind {node['title']}"


def test_a_line_crosses_a_box_that_is_in_its_way():
    box = Box(10, 10, 20, 20)
    assert box.crosses((0, 0), (30, 30)) and box.crosses((15, 0), (15, 30))
    assert not box.crosses((0, 0), (9, 30)) and not box.crosses((0, 15), (9, 15))
    assert not box.crosses((0, 25), (30, 25)) and not box.crosses((0, 11), (9, 0))


@each_template
def test_both_forms_are_valid_as_they_are(file):
    """No input is missing in either format; other problems only come from absent models."""
    for workflow in (read(file), twin(file)):
        problems = validate(parse_workflow(workflow, REGISTRY), REGISTRY)
        assert [one for one in map(str, problems) if "missing" in one] == []
        assert not problems or not is_embedded(twin(file)), problems


@each_template
def test_the_note_says_what_is_made_and_what_to_change_first(file):
    note = note_of(read(file))
    assert note.startswith("# ") and "\n\n**Change first:** " in note


@each_template
def test_the_note_lists_the_words_that_the_embedded_model_knows(file):
    prompt = twin(file)
    texts = [node["inputs"].get("text") for node in prompt.values()]
    texts = [text for text in texts if isinstance(text, str) and text]
    if not texts or not is_embedded(prompt):
        return
    note, (shapes, driving) = note_of(read(file)), word_lists.paragraphs()
    on_roads = any("boxes" in node["inputs"] for node in prompt.values())
    assert driving in note and (on_roads or shapes in note)


@each_template
def test_names_in_the_note_are_those_of_nodes_and_groups(file):
    workflow = read(file)
    shown = [one["title"] for one in workflow["nodes"] + workflow["groups"]]
    known = [*shown, *(spec.display_name or "" for spec in REGISTRY.values())]
    for name in re.findall(r"(?<!\*)\*([A-Z][^*]+)\*(?!\*)", note_of(workflow)):
        assert any(one.startswith(name) for one in known), name
