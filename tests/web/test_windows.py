"""The browser draws the windows and weights that are sampled."""

from __future__ import annotations

import json

import pytest
from videoldm.core.tasks.window_schedules import WindowLayout
from videoldm.core.tasks.windows import FUSE_WEIGHTS
from videoldm.nodes.choices import FUSES, WINDOW_SCHEDULES

WINDOWINGS = [
    dict(window_schedule=schedule, frames=frames, window=window, overlap=overlap, strides=strides,
         step=step)
    for schedule in WINDOW_SCHEDULES
    for frames in (1, 2, 15, 16, 17, 25, 48, 61, 100) for window, overlap in ((8, 0), (16, 4))
    for strides in (1, 3) for step in (0, 1, 2, 5)
]  # fmt: skip


def laid(one: dict) -> WindowLayout:
    names = {"window": "window", "overlap": "overlap", "strides": "strides",
             "schedule": "window_schedule"}  # fmt: skip
    return WindowLayout(**{name: one[key] for name, key in names.items()})


def test_the_browser_draws_the_windows_that_are_sampled(javascript):
    found = javascript("windows.js", f"{json.dumps(WINDOWINGS)}.map(m.windowsAt)")
    for one, windows in zip(WINDOWINGS, found, strict=True):
        wanted = laid(one).windows(one["frames"], one["step"])
        assert [tuple(window) for window in windows] == wanted, one
    broken = [dict(frames=8, window=4, overlap=4), dict(frames=0, window=4, overlap=0), {}]
    assert javascript("windows.js", f"{json.dumps(broken)}.map(m.windowsAt)") == [[], [], []]


@pytest.mark.parametrize("fuse", FUSES)
def test_the_browser_draws_the_weights_that_windows_have(javascript, fuse):
    for window, frames, overlap in (
        (range(0, 16), 48, 4), (range(12, 28), 48, 4), (range(32, 48), 48, 4), (range(7), 7, 6),
        (range(5, 9), 20, 1), ([18, 19, 0, 1, 2], 20, 2),
    ):  # fmt: skip
        given = json.dumps([list(window), frames, overlap, fuse])
        wanted = FUSE_WEIGHTS[fuse](tuple(window), frames, overlap)
        found = javascript("windows.js", f"m.weightsOf(...{given})")
        assert found == pytest.approx((wanted / wanted.max()).tolist(), abs=1e-6)
