"""The curve editor in ComfyUI's frontend, in both renderings: by mouse and by keyboard."""

from __future__ import annotations

import json

import pytest
from browser import Frontend
from test_browser_nodes import one_node

pytestmark = pytest.mark.usefixtures("no_errors")


@pytest.fixture
def drawing(frontend):
    """A Strength Curve node, loaded from a workflow."""
    values = ["[[0, 0.2], [8, 1], [15, 0.5]]", "frames", "smooth"]
    frontend.load(one_node("VideoLDM_StrengthCurve", values, [420, 420]))
    return Drawing(frontend)


class Drawing:
    def __init__(self, tab: Frontend):
        self.tab, self.page = tab, tab.page
        self.area = self.page.locator(".videoldm-points")

    @property
    def points(self) -> list:
        return json.loads(self.tab.value(1, "points"))

    def dot(self, index: int):
        return self.page.locator(".videoldm-point").nth(index)

    def height_at(self, x: float) -> float:
        """The height of the drawn line at frame x of 15, in percent from the top."""
        text = self.page.locator(".videoldm-plot polyline").get_attribute("points")
        line = [[float(one) for one in pair.split(",")] for pair in text.split()]
        return min(line, key=lambda pair: abs(pair[0] - 100 * x / 15))[1]

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Screen coordinates of a point of the drawing, given as fractions from its upper left."""
        box = self.area.bounding_box()
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        self.page.mouse.move(*start)
        self.page.mouse.down()
        for part in (0.3, 0.7, 1.0):
            self.page.mouse.move(*(a + part * (b - a) for a, b in zip(start, end, strict=True)))
        self.page.mouse.up()


def test_the_drawing_shows_the_text_and_leaves_it_alone(drawing):
    assert drawing.page.locator(".videoldm-point").count() == 3
    assert drawing.points == [[0, 0.2], [8, 1], [15, 0.5]]
    values = {"points": "[[0, 0.2], [8, 1], [15, 0.5]]", "over": "frames"}
    assert drawing.tab.prompt()["1"]["inputs"] == {**values, "interpolation": "smooth", "sites": ""}
    drawing.tab.shot("curve")


def test_the_line_follows_the_interpolation(drawing):
    """At frame 4, halfway between strength 0.2 at frame 0 and 1 at frame 8."""
    assert drawing.height_at(4) == pytest.approx(30, abs=1)  # 0.7, from the monotone cubic
    drawing.tab.js(
        """() => { const w = app.graph.getNodeById(1).widgets[2];
                   w.value = "linear"; w.callback(w.value); }"""
    )
    assert drawing.height_at(4) == pytest.approx(40, abs=1)


def test_points_are_added_and_dragged_with_the_mouse(drawing):
    drawing.drag(drawing.at(12 / 15, 0.1), drawing.at(12 / 15, 0.25))
    assert drawing.points == [[0, 0.2], [8, 1], [12, 0.75], [15, 0.5]]
    box = drawing.dot(1).bounding_box()
    start = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    drawing.drag(start, drawing.at(4 / 15, 0.5))
    assert drawing.points[1] == [4, 0.5]
    drawing.page.locator(".videoldm-deletePoint").click()
    assert drawing.points == [[0, 0.2], [12, 0.75], [15, 0.5]]
    drawing.tab.shot("curve_edited")


def test_points_are_edited_with_the_keyboard_and_by_numbers(drawing):
    drawing.dot(1).focus()
    for key in ("ArrowRight", "ArrowDown", "Shift+ArrowDown"):
        drawing.page.keyboard.press(key)
    assert drawing.points[1] == [9, 0.94]
    strength = drawing.page.locator(".videoldm-curve input[data-axis=y]")
    strength.fill("2.5")
    strength.press("Enter")
    assert drawing.points[1] == [9, 2.5]
    drawing.dot(0).focus()
    drawing.page.keyboard.press("Delete")
    assert drawing.points == [[9, 2.5], [15, 0.5]]
    drawing.page.keyboard.press("Delete")
    drawing.page.keyboard.press("Delete")
    assert len(drawing.points) == 1, "the last one stays"
    assert len(drawing.tab.graph()["nodes"]) == 1, "and so does the node"


def test_a_text_that_cannot_be_read_says_why(drawing):
    drawing.tab.js(
        """() => { const w = app.graph.getNodeById(1).widgets.find((w) => w.name === "points");
                   w.value = "[[0, 1], [0, 2], [0, 3]]"; w.callback(w.value); }"""
    )
    problem = drawing.page.locator(".videoldm-curve .videoldm-problem")
    assert "More than 2 points stand at 0" in problem.inner_text()
