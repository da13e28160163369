"""The browser draws the boxes that the node reads."""

from __future__ import annotations

import json

from videoldm.nodes.boxes import EXAMPLE as BOXES
from videoldm.nodes.stages.texts import read_boxes

BOX = {"label": "red car", "x0": 0.1, "y0": 0.2, "x1": 0.5, "y1": 1}
BOX_TEXTS = [
    BOXES, "", "[]", "{}", "[1]", "[null]", "[{",
    *(json.dumps([BOX, BOX | changed]) for changed in (
        {}, {"label": ""}, {"label": 3}, {"label": None}, {"x0": 0.5}, {"x0": -0.1}, {"y1": 1.5},
        {"y1": "1"}, {"x0": None}, {"x0": True}, {"color": "red"}, {"color": None},
    )),
]  # fmt: skip


def test_the_drawn_boxes_are_those_that_the_node_reads(javascript):
    answers = javascript("boxes.js", f"{json.dumps(BOX_TEXTS)}.map((one) => m.readBoxes(one))")
    for text, answer in zip(BOX_TEXTS, answers, strict=True):
        try:
            expected = [vars(one) for one in read_boxes(text)]
        except ValueError:
            assert "problem" in answer, text
            continue
        assert answer["value"] == expected, text


def test_edited_boxes_stay_inside_the_picture_and_in_order(javascript):
    corners = [[0.3, 0.3, 0.3, 0.3], [1.4, 0.9, -2, -0.5], [0.999, 0.999, 1, 1], [0.7, 0, 0.2, 1]]
    steps = [[0, 0], [2, -2], [-0.05, 0.333], [-3, 3]]
    found = javascript(
        "boxes.js",
        f"""{json.dumps(corners)}.flatMap(([a, b, c, d]) => {{
            const box = m.span("car", [a, b], [c, d]);
            return [box, ...{json.dumps(steps)}.flatMap(([x, y]) => [
                m.moved(box, x, y), m.resized(box, x, y)])];
        }}).map((box) => m.writeBoxes([box]))""",
    )
    boxes = [read_boxes(text)[0] for text in found]
    assert len(boxes) == 36 and {box.label for box in boxes} == {"car"}
    before, moved = boxes[27], boxes[32]
    assert (before.x0, before.x1) == (0.2, 0.7)
    assert (moved.x0, moved.x1) == (0.15, 0.65), "moving keeps the size"
