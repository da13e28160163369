"""The timeline shows the windows of a finished run over pictures of their frames."""

from __future__ import annotations

import copy

import pytest
from browser import RENDERINGS
from kill.flows import segmented

pytestmark = pytest.mark.usefixtures("no_errors")

SEGMENTS = [("a red circle moves right", 1), ("a blue square moves left", 2),
            ("a green triangle moves up", 3)]  # fmt: skip
BARS = """() => [...document.querySelectorAll(".videoldm-finished rect")].map(
    (one) => one.getAttribute("class").replace("videoldm-", ""))"""


def flow(number: int) -> dict:
    """24 frames of the embedded models in windows of 8 that overlap by 1; each rendering has a cfg
    of its own, so that nothing is cached for it."""
    made = copy.deepcopy(segmented(*SEGMENTS, frames=8))
    made["7"]["inputs"] |= {
        "width": 64,
        "height": 64,
        "steps": 3,
        "strategy.window": 8,
        "cfg": 2.0 + number,
    }
    return made


def flow_of(tab) -> dict:
    return flow(list(RENDERINGS).index(tab.name))


@pytest.fixture
def page(frontend):
    frontend.js("async data => { await app.loadApiJson(data, 'timeline'); }", flow_of(frontend))
    frontend.fit()
    return frontend


def look_at(tab, *kinds: str) -> None:
    """Zoom to fit the nodes of these types."""
    tab.js(
        """(kinds) => { const { canvas, graph } = app;
        canvas.selectItems(graph.nodes.filter((one) => kinds.includes(one.type)));
        app.extensionManager.command.execute("Comfy.Canvas.FitView"); }""",
        list(kinds),
    )
    tab.page.wait_for_timeout(800)


def run(tab) -> None:
    tab.server.wait(tab.queue())
    tab.page.locator(".videoldm-finished:visible").wait_for(timeout=60_000)
    tab.page.wait_for_timeout(500)


def test_windows_are_shown_over_pictures_and_what_a_change_would_make_again(page):
    page.server.clear()
    run(page)
    assert len(page.js(BARS)) == 4 and "again" not in page.js(BARS)
    picture = page.page.locator(".videoldm-finished img")
    assert picture.evaluate("(one) => one.naturalWidth / one.naturalHeight") == 24
    plan = page.page.locator(".videoldm-plan img")
    assert plan.evaluate("(one) => one.complete && one.naturalWidth") > 0
    said = page.page.locator(".videoldm-plan figcaption").inner_text()
    assert said.startswith("12 steps, 8 frames at a time")
    look_at(page, "VideoLDM_LongHorizonSegments", "VideoLDM_VideoSampler")
    page.shot("timeline_finished")
    prompt = page.page.locator(".videoldm-timeline textarea").first
    page.page.locator(".videoldm-segment").nth(1).click()
    prompt.fill("a blue circle")
    prompt.blur()
    # Window 1 sees frames 7 to 14; the second segment begins at 8. Later windows continue it.
    assert page.js(BARS)[1:] == ["again"] * 3 and page.js(BARS)[0] != "again"
    caption = page.page.locator(".videoldm-finished [role=status]").inner_text()
    assert caption == "3 of 4 windows would be made again"
    page.page.wait_for_timeout(300)
    page.shot("timeline_again")
    for steps, count in ((4, 4), (3, 3)):
        page.js(
            """(steps) => {
            const node = app.graph.nodes.find((one) => one.type === "VideoLDM_VideoSampler");
            const widget = node.widgets.find((one) => one.name === "steps");
            [widget.value] = [steps];
            app.extensionManager.workflow.activeWorkflow.changeTracker.checkState(); }""",
            steps,
        )
        page.page.wait_for_function(
            f"""() => document.querySelector(".videoldm-finished [role=status]").innerText
            === "{count} of 4 windows would be made again\""""
        )
    run(page)
    page.page.wait_for_function(f"() => ({BARS})().includes('made')")
    assert page.js(BARS) == ["there", *["made"] * 3]
    page.shot("timeline_made")


def test_the_history_holds_what_is_shown(page):
    history = page.server.run(flow_of(page))
    (told,) = history["outputs"]["7"]["videoldm_windows"]
    assert [one[:2] for one in told["windows"]] == [[0, 7], [7, 14], [14, 21], [21, 28]]
    strip = {key: told["pictures"][key] for key in ("filename", "subfolder", "type")}
    place = page.server.base / strip["type"] / strip["subfolder"] / strip["filename"]
    assert place.read_bytes()[:4] == b"\x89PNG"
