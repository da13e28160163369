"""The preview in Load Video follows what is chosen, in both renderings."""

from __future__ import annotations

import pytest
from test_browser_nodes import open_api
from test_media import clip, load, prompt

LOAD = "VideoLDM_LoadVideo"
PLAYED = """() => [...document.querySelectorAll('.videoldm-selection video')]
    .filter(one => one.offsetParent !== null && one.readyState > 0).map(one => one.duration)"""


pytestmark = pytest.mark.usefixtures("no_errors")


def turn(frontend, name: str, value) -> None:
    """Change a widget as a user does: its callback is called."""
    frontend.js(
        """([kind, name, value]) => {
            const node = app.graph.nodes.find((one) => one.type === kind);
            const widget = node.widgets.find((one) => one.name === name);
            widget.value = value;
            widget.callback?.(value);
        }""",
        [LOAD, name, value],
    )


def lasts(frontend, expected: float | None = None) -> list[float]:
    """Seconds of the previews that are seen, once there is the expected one, or after a while."""
    for _ in range(60 if expected else 12):
        frontend.page.wait_for_timeout(250)
        found = [round(seconds, 2) for seconds in frontend.js(PLAYED) if seconds]
        if found == [expected]:
            break
    return found


def test_the_preview_follows_the_widgets(frontend, comfyui):
    clip(comfyui.base / "input" / "sound.mp4")
    open_api(frontend, prompt(n1=load()))
    assert lasts(frontend) == [], "ComfyUI shows whole files"
    turn(frontend, "start_time", 1.0)
    turn(frontend, "duration", 2.0)
    assert lasts(frontend, 2.0) == [2.0]
    turn(frontend, "ping_pong", True)
    turn(frontend, "force_rate", 8.0)
    assert lasts(frontend, 3.75) == [3.75]
    line = frontend.page.locator(".videoldm-selection div").inner_text()
    assert line == "30 frames, 3.75 s at 8 per second, 32x32"
    frontend.fit()
    frontend.shot("selection")
    for name, whole in (
        ("start_time", 0),
        ("duration", 0),
        ("ping_pong", False),
        ("force_rate", 0),
    ):
        turn(frontend, name, whole)
    assert lasts(frontend) == [], "the whole file is ComfyUI's own to show"


def test_a_workflow_with_a_part_shows_it_and_a_fault_is_a_note(frontend, comfyui):
    clip(comfyui.base / "input" / "sound.mp4")
    open_api(frontend, prompt(n1=load(start=4, count=6)))
    assert lasts(frontend, 1.5) == [1.5]
    turn(frontend, "count", 99)
    frontend.page.wait_for_timeout(1500)
    (note,) = frontend.page.locator(".videoldm-warning").all_inner_texts()
    assert "99 frames wanted" in note
    turn(frontend, "count", 3)
    assert lasts(frontend, 0.75) == [0.75]
    assert frontend.page.locator(".videoldm-warning").count() == 0
