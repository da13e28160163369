"""The timeline of segments in ComfyUI's frontend, by mouse and by keyboard, in both renderings."""

from __future__ import annotations

import json

import pytest
from browser import Frontend, one_node

SEGMENTS = [
    {"prompt": "a red circle moves right", "frames": 32},
    {"prompt": "a blue square", "frames": 24, "overlap": 8, "seed": 7},
]

pytestmark = pytest.mark.usefixtures("no_errors")


@pytest.fixture
def timeline(frontend):
    """A Long-Horizon Segments node, loaded from a workflow."""
    frontend.load(one_node("VideoLDM_LongHorizonSegments", [json.dumps(SEGMENTS)], [460, 520]))
    return Timeline(frontend)


class Timeline:
    def __init__(self, tab: Frontend):
        self.tab, self.page = tab, tab.page

    @property
    def segments(self) -> list[dict]:
        return json.loads(self.text)

    @property
    def text(self) -> str:
        return self.tab.value(1, "segments")

    @property
    def frames(self) -> list[int]:
        return [one["frames"] for one in self.segments]

    @property
    def prompts(self) -> list[str]:
        return [one["prompt"] for one in self.segments]

    def wait_for(self, text: str) -> None:
        """Wait until the widget holds `text`: undo reloads the graph."""
        has = """text => app.graph.getNodeById(1)?.widgets.some((w) => w.value === text)"""
        self.page.wait_for_function(has, arg=text, timeout=10_000)
        self.page.wait_for_timeout(500)

    def block(self, index: int):
        return self.page.locator(".videoldm-segment").nth(index)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def drag(self, index: int, start: float, by: float) -> None:
        """Drag from a fraction of a segment's width, by a fraction of the track's width."""
        box, track = self.block(index).bounding_box(), self.page.locator(".videoldm-track")
        x, y = box["x"] + start * box["width"], box["y"] + box["height"] / 2
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        for part in (0.3, 0.7, 1.0):
            self.page.mouse.move(x + part * by * track.bounding_box()["width"], y)
        self.page.mouse.up()


def test_the_timeline_shows_the_text_and_leaves_it_alone(timeline):
    assert timeline.page.locator(".videoldm-segment").count() == 2
    assert "a blue square" in timeline.block(1).inner_text()
    assert timeline.page.locator(".videoldm-total").inner_text() == "2 segments · 48 frames"
    assert timeline.text == json.dumps(SEGMENTS), "nothing is rewritten before an edit"
    saved = timeline.tab.graph()["nodes"][0]
    assert saved["widgets_values"][0] == json.dumps(SEGMENTS)
    assert timeline.tab.prompt()["1"]["inputs"]["segments"] == json.dumps(SEGMENTS)
    timeline.tab.shot("timeline")


def test_segments_are_edited_with_the_mouse(timeline):
    page = timeline.page
    timeline.drag(0, 0.99, 0.25)
    assert timeline.frames == [44, 24], "a quarter of 48 frames longer"
    timeline.drag(0, 0.4, 0.7)
    assert timeline.prompts == ["a blue square", "a red circle moves right"]
    assert "overlap" not in timeline.segments[0]
    timeline.block(0).click()
    page.locator(".videoldm-add").click()
    assert timeline.frames == [24, 24, 44]
    page.locator(".videoldm-split").click()
    assert timeline.frames == [24, 12, 12, 44]
    page.locator(".videoldm-later").click()
    page.locator(".videoldm-earlier").click()
    page.locator(".videoldm-delete").click()
    assert len(timeline.segments) == 3
    timeline.tab.shot("timeline_edited")


def test_segments_are_edited_with_the_keyboard(timeline):
    timeline.block(0).focus()
    timeline.press("ArrowRight", "Shift+ArrowRight", "Shift+ArrowRight", "Shift+ArrowLeft")
    assert timeline.frames == [32, 25]
    timeline.press("Control+ArrowLeft")
    assert timeline.prompts == ["a blue square", "a red circle moves right"]
    timeline.press("Insert", "s")
    assert len(timeline.segments) == 4
    timeline.press("Home", "Enter")
    timeline.page.keyboard.type("Two: ")
    timeline.press("Escape", "End", "Delete", "Delete", "Delete", "Delete", "Backspace")
    assert len(timeline.segments) == 1, "the last one stays"
    assert "Two: " in timeline.prompts[0]
    assert len(timeline.tab.graph()["nodes"]) == 1, "Delete is the segment's, not the node's"


def test_the_outermost_pixel_of_a_segment_is_its_handle(timeline):
    box, page = timeline.block(0).bounding_box(), timeline.page
    x, y = box["x"] + box["width"] - 0.5, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 40, y)
    page.mouse.up()
    assert timeline.prompts[0] == "a red circle moves right" and timeline.frames[0] > 32


def test_twenty_segments_stay_labelled(timeline):
    many = [{"prompt": f"number {k}", "frames": 16} for k in range(20)]
    timeline.tab.load(one_node("VideoLDM_LongHorizonSegments", [json.dumps(many)], [460, 520]))
    labels = timeline.page.locator(".videoldm-number")
    shown = [labels.nth(k).inner_text() for k in range(20) if labels.nth(k).is_visible()]
    assert shown == [str(k + 1) for k in range(20)]
    timeline.tab.shot("timeline_of_twenty")


@pytest.mark.parametrize("where", [".videoldm-track", ".videoldm-total"])
def test_the_wheel_zooms_the_canvas(timeline, where):
    scale = "() => app.canvas.ds.scale"
    box, before = timeline.page.locator(where).bounding_box(), timeline.tab.js(scale)
    timeline.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    timeline.page.mouse.wheel(0, -240)
    timeline.page.wait_for_timeout(300)
    assert 1.05 < timeline.tab.js(scale) / before < 1.5, "once, not twice"


def test_one_undo_takes_back_one_edit(timeline):
    page = timeline.page
    timeline.block(0).click()
    seen = [timeline.text]
    page.locator(".videoldm-add").click()
    seen.append(timeline.text)
    page.locator(".videoldm-split").click()
    seen.append(timeline.text)
    timeline.block(1).focus()
    timeline.press("Shift+ArrowRight")
    seen.append(timeline.text)
    page.locator(".videoldm-prompt textarea").click()
    page.keyboard.type("Two: ")
    timeline.block(1).focus()
    page.wait_for_timeout(300)
    steps = """() => app.extensionManager.workflow.activeWorkflow.changeTracker.undoQueue
        .map((state) => state.nodes[0].widgets_values[0])"""
    assert timeline.tab.js(steps)[-len(seen) :] == seen
    timeline.press("Control+z")
    timeline.wait_for(seen[-1])


def test_a_new_node_is_painted_in_full(frontend):
    frontend.js("""() => {
        app.graph.clear();
        const node = LiteGraph.createNode("VideoLDM_LongHorizonSegments");
        node.pos = [300, 150];
        app.graph.add(node);
    }""")
    frontend.page.wait_for_timeout(800)
    bottom = frontend.js("""() => {
        const { pos, size } = app.graph.nodes[0];
        const [, y] = app.canvas.ds.convertOffsetToCanvas([pos[0], pos[1] + size[1]]);
        return y + app.canvas.canvas.getBoundingClientRect().top;
    }""")
    box = frontend.page.locator(".videoldm-timeline").bounding_box()
    assert box["y"] + box["height"] <= bottom + 1
    frontend.shot("new_node")


def test_fields_change_the_chosen_segment(timeline):
    page = timeline.page
    timeline.block(1).click()
    for name, value in (("frames", "20"), ("overlap", "4"), ("seed", "123")):
        page.locator(f".videoldm-{name} input").fill(value)
        page.keyboard.press("Tab")
    page.locator(".videoldm-prompt textarea").fill('a "green" triangle')
    assert timeline.segments[1] == {
        "prompt": 'a "green" triangle', "frames": 20, "overlap": 4, "seed": 123,
    }  # fmt: skip
    page.locator(".videoldm-overlap input").fill("99")
    page.keyboard.press("Tab")
    assert timeline.segments[1]["overlap"] == 19, "at most one less than the segment has"
    page.locator(".videoldm-seed input").fill("")
    page.keyboard.press("Tab")
    assert "seed" not in timeline.segments[1]


def test_the_text_can_be_typed_and_is_never_lost(timeline):
    page = timeline.page
    box = page.locator("textarea").and_(page.locator(":not(.videoldm-timeline textarea)")).first
    box.fill('[{"prompt": "half", "fra')
    problem = page.locator(".videoldm-problem")
    assert "is not valid JSON yet" in problem.inner_text()
    assert problem.inner_text().count(". ") == 0, "one sentence"
    assert timeline.text == '[{"prompt": "half", "fra'
    timeline.block(0).focus()
    timeline.press("Delete", "Insert")
    assert timeline.text == '[{"prompt": "half", "fra', "broken text is not overwritten"
    timeline.tab.shot("timeline_broken")
    box.fill('[{"prompt": "half", "frames": 10}]')
    assert problem.inner_text() == ""
    assert page.locator(".videoldm-segment").count() == 1
    box.fill('[{"prompt": "half", "frames": 10, "overlap": 0, "length": 3}]')
    assert "Segment 1 has an entry length" in problem.inner_text()
