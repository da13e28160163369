"""The editor of camera moves in ComfyUI's frontend, in both renderings: by mouse and by keyboard,
and reading texts as the node does."""

from __future__ import annotations

import pytest
import torch
from browser import Frontend, one_node
from comfyui_server import PACK
from videoldm.nodes.stages.camera_texts import read_camera
from videoldm.nodes.stages.cameras import camera_path

pytestmark = pytest.mark.usefixtures("no_errors")
FRAMES = 16
TEXTS = [
    "0-15: zoom in 0.5, pan left 10",
    "pan right",
    "0-7: tilt up 20, roll left\n7-15: truck left 1.25, pedestal down .5",
    "3 - 9: Zoom Out 2, pan left 5, pan left 7.5\n\n0-15:",
    "roll right 30, roll anticlockwise 12",
]
BROKEN = [
    ("0-16: pan left", "The frames 0-16 do not lie in order in a video of 16 frames"),
    ("5-5: pan left", "The frames 5-5 do not lie in order"),
    ("pan down", "The camera move pan down is not known"),
    ("fly", "The camera move fly is not known"),
    (" ".join(["0.5"] * 19), "Camera poses are used as they are"),
]


@pytest.fixture
def editor(frontend):
    frontend.load(one_node("VideoLDM_CameraControl", ["", TEXTS[0], FRAMES, 1.0], [420, 560]))
    return Editor(frontend)


class Editor:
    def __init__(self, tab: Frontend):
        self.tab, self.page = tab, tab.page
        self.pad = self.page.locator(".videoldm-pad")

    def type(self, text: str) -> None:
        self.tab.js(
            """text => { const w = app.graph.getNodeById(1).widgets.find((w) => w.name === "moves");
                         w.value = text; w.callback(w.value); }""",
            text,
        )

    @property
    def text(self) -> str:
        return self.tab.value(1, "moves")

    def amount(self, name: str) -> float:
        return sum(one.amount for one in read_camera(self.text, FRAMES) if one.kind == name)

    def drag(self, what, dx: float, dy: float) -> None:
        """Drag by fractions of the pad's height, of which the picture is 0.64 wide."""
        size, box = self.pad.bounding_box(), what.bounding_box()
        unit = min(size["width"] / 2, size["height"])
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        for part in (0.3, 0.7, 1.0):
            self.page.mouse.move(x + part * dx * unit, y + part * dy * unit)
        self.page.mouse.up()

    def part(self, act: str):
        return self.pad.locator(f"[data-act={act}]")


def test_what_is_read_and_written_is_what_the_node_reads(frontend):
    for text in TEXTS:
        written = frontend.js(
            """async ([text, frames, pack]) => {
                const camera = await import(`/extensions/${pack}/camera.js`);
                return camera.writeCamera(camera.readCamera(text, frames).value); }""",
            [text, FRAMES, PACK],
        )
        ours, theirs = (camera_path(one, FRAMES).world_to_camera for one in (written, text))
        torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)


def test_the_editor_leaves_the_text_alone_until_it_is_used(editor):
    assert editor.text == TEXTS[0]
    assert editor.page.locator(".videoldm-range").count() == 1
    editor.tab.shot("camera")


@pytest.mark.parametrize(("text", "words"), BROKEN)
def test_texts_that_are_not_drawn_say_why(editor, text, words):
    editor.type(text)
    problem = editor.page.locator(".videoldm-camera .videoldm-problem")
    assert words in problem.inner_text()
    assert editor.text == text


def test_dragging_the_picture_turns_or_shifts_the_camera(editor):
    editor.type("0-15: zoom in 0")
    editor.drag(editor.part("move"), 0.32, 0.16)
    assert editor.amount("pan") == pytest.approx(45, abs=2)
    assert editor.amount("tilt") == pytest.approx(22.5, abs=2)
    editor.page.locator(".videoldm-shifts").click()
    editor.drag(editor.part("move"), -0.16, 0.0)
    assert editor.amount("truck") == pytest.approx(-0.5, abs=0.05)
    assert editor.amount("pan") == pytest.approx(45, abs=2)
    editor.page.locator(".videoldm-shifts").click()


def test_the_corner_zooms_and_the_handle_rolls(editor):
    editor.type("0-15: pan right 10")
    # From the corner (0.32, 0.18) to half of it: twice as near.
    editor.drag(editor.part("zoom"), -0.16, -0.09)
    assert editor.amount("zoom") == pytest.approx(1, abs=0.1)
    top = (0.09 + 0.1) / 1  # the handle above the centre of the picture, which is half as large now
    editor.drag(editor.part("roll"), top, top)
    assert editor.amount("roll") == pytest.approx(90, abs=4)
    editor.tab.shot("camera_drawn")


def test_ranges_are_added_moved_stretched_and_deleted(editor):
    editor.type("0-8: pan left 10")
    editor.page.locator(".videoldm-addRange").click()
    assert editor.text == "0-8: pan left 10\n8-15: zoom in 0"
    field = editor.page.locator(".videoldm-camera input[data-move=zoom]")
    field.fill("1.5")
    field.press("Enter")
    assert editor.text.endswith("8-15: zoom in 1.5")
    bars = editor.page.locator(".videoldm-range")
    bars.nth(0).focus()
    for key in ("ArrowRight", "ArrowRight", "Shift+ArrowLeft"):
        editor.page.keyboard.press(key)
    assert editor.text.startswith("2-9: pan left 10")
    wide = bars.nth(0).bounding_box()["width"] / 7
    box = bars.nth(0).locator(".videoldm-finish").bounding_box()
    editor.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    editor.page.mouse.down()
    editor.page.mouse.move(box["x"] + 3 * wide, box["y"] + 2, steps=4)
    editor.page.mouse.up()
    assert editor.text.startswith("2-12: pan left 10")
    editor.tab.shot("camera_ranges")
    bars.nth(1).focus()
    editor.page.keyboard.press("Delete")
    assert editor.text == "2-12: pan left 10"
    assert len(editor.tab.graph()["nodes"]) == 1, "Delete is the range's, not the node's"


def test_keys_move_the_picture(editor):
    editor.type("0-15: zoom in 0")
    editor.pad.focus()
    for key in ("ArrowLeft", "ArrowLeft", "Shift+ArrowUp", "+", "]"):
        editor.page.keyboard.press(key)
    moves = {one.kind: one.amount for one in read_camera(editor.text, FRAMES)}
    assert moves == {"zoom": 0.05, "pan": -2, "pedestal": -0.05, "roll": 1}
