"""The Video Sampler draws its windows in the node, in both renderings."""

from __future__ import annotations

import pytest
from test_browser_nodes import open_api, sampler_graph
from test_browser_strategies import SAMPLER
from videoldm.core.tasks.window_schedules import WindowLayout

SHOWN = """() => [...document.querySelectorAll(".videoldm-windows")].map((one) => ({
    hidden: one.hidden, caption: one.innerText, rows: one.querySelectorAll("path").length,
    starts: [...one.querySelectorAll("path")].map(
        (path) => path.getAttribute("d").split("M").slice(1).map((bar) => parseInt(bar))),
    height: one.getBoundingClientRect().height}))"""
TYPE = """([name, value]) => {
    const node = app.graph.nodes.find((n) => n.type === "VideoLDM_VideoSampler");
    const widget = node.widgets.find((w) => w.name === name);
    widget.value = value;
    widget.callback?.(value);
}"""


pytestmark = pytest.mark.usefixtures("no_errors")


def typed(frontend, **values):
    for name, value in values.items():
        frontend.js(TYPE, [name.replace("__", "."), value])
        frontend.page.wait_for_timeout(200)


def shown(frontend) -> dict:
    (found,) = frontend.js(SHOWN)
    return found


def test_the_windows_that_are_sampled_are_drawn(frontend):
    open_api(frontend, sampler_graph())
    assert shown(frontend)["hidden"]
    typed(frontend, frames=48, strategy="sliding windows", strategy__window=16,
          strategy__overlap=4)  # fmt: skip
    found = shown(frontend)
    wanted = WindowLayout(window=16, overlap=4).windows(48)
    assert [tuple(one) for one in found["starts"]] == wanted
    assert found["caption"] == f"{len(wanted)} windows over 48 frames" and found["height"] > 40
    frontend.fit()
    frontend.shot("windows_static")
    typed(frontend, strategy__overlap=8)
    assert shown(frontend)["rows"] == len(WindowLayout(window=16, overlap=8).windows(48))
    typed(frontend, strategy="single clip")
    assert shown(frontend)["hidden"]


def test_windows_that_move_are_shown_step_by_step(frontend):
    open_api(frontend, sampler_graph())
    typed(frontend, frames=40, strategy="sliding windows", strategy__window_schedule="looped",
          strategy__strides=2)  # fmt: skip
    layout = WindowLayout(window=16, overlap=4, schedule="looped", strides=2)
    for step in range(3):
        found = shown(frontend)
        assert [tuple(one) for one in found["starts"]] == layout.windows(40, step)
        assert f"at step {step + 1} of 30" in found["caption"]
        frontend.shot(f"windows_looped_{step}")
        frontend.page.locator(".videoldm-windows").first.click()
        frontend.page.wait_for_timeout(200)


def test_windows_of_a_changed_video_are_drawn_and_survive_saving(frontend):
    open_api(frontend, sampler_graph())
    typed(frontend, frames=40, strategy="video to video", strategy__windows="sliding windows",
          strategy__windows__window=8, strategy__windows__overlap=2)  # fmt: skip
    rows = len(WindowLayout(window=8, overlap=2).windows(40))
    assert shown(frontend)["rows"] == rows
    frontend.load(frontend.graph())
    assert shown(frontend)["rows"] == rows and not shown(frontend)["hidden"]
    assert frontend.prompt()["6"]["inputs"]["strategy.windows.window"] == 8
    frontend.shot("windows_of_a_changed_video")
    assert frontend.node(SAMPLER)
