"""Progress of `videoldm run`: bars, lines, and the time left."""

from __future__ import annotations

import sys

import pytest
from command_toys import REGISTRY, count, write
from videoldm.core.graph import Event
from videoldm.nodes.command import progress


def test_pace_gives_the_time_left_and_starts_over_when_steps_go_back():
    now = iter([0.0, 2.0, 4.0, 10.0, 11.0])
    time_left = progress.NodeTimeLeft(lambda: next(now))
    assert time_left.seconds(1, 5) == 8.0
    assert time_left.seconds(2, 5) == 6.0
    assert time_left.seconds(0, 5) is None, "a new phase"
    assert time_left.seconds(1, 5) == 4.0


def test_lines_tell_the_steps_only_now_and_then(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    lines = progress.Lines(sys.stderr)
    lines.names = {"1": "Count"}
    lines(Event("node_start", "1", "Toy", display_id="1"))
    for step in range(1, 11):
        now[0] += 0.5
        lines(Event("progress", "1", "Toy", value=step, total=10, display_id="1"))
    lines(Event("node_done", "1", "Toy", display_id="1"))
    assert capsys.readouterr().err.splitlines() == [
        "[1/1] Count: 4/10, 3.0 s left",
        "[1/1] Count: 8/10, 1.0 s left",
        "[1/1] Count: done in 5.0 s",
    ]


def test_bars_take_every_kind_of_event(capsys):
    bars = progress.Bars(sys.stderr)
    from videoldm.core.graph import graph_from_api

    bars.begin(graph_from_api({"1": count(), "2": write()}), REGISTRY)
    for kind in ("node_start", "progress", "node_done"):
        bars(Event(kind, "1", "Toy_Count", value=1, total=4, display_id="1"))
    bars(Event("node_cached", "2", "Toy_Write", display_id="2"))
    bars(Event("blocked", "2", "Toy_Write", display_id="2", text="no frames"))
    bars.end()
    err = capsys.readouterr().err
    assert "[1/2] Count Steps" in err and "[2/2] Write" in err and "no frames" in err


@pytest.mark.parametrize("seconds, text", [(4.21, "4.2 s"), (185, "3:05 min"), (7800, "2:10 h")])
def test_durations_are_written_for_people(seconds, text):
    assert progress.duration(seconds) == text
