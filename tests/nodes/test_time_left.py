"""Time left is estimated from the speed since the first report, and not reported too often."""

from __future__ import annotations

import pytest
from videoldm.nodes.host.time_left import INTERVAL, TimeLeft


def test_time_left_follows_the_speed_since_the_first_report():
    time_left = TimeLeft()
    time_left.restart(100.0, done=1)
    assert time_left.seconds(100.0, 1, 11) is None, "one report tells no speed"
    assert time_left.seconds(106.0, 4, 11) == pytest.approx(14.0)
    assert time_left.seconds(120.0, 11, 11) == 0
    assert time_left.seconds(120.0, 12, 11) == 0, "more than all is not less than no time"


def test_reports_keep_their_distance_except_the_last():
    time_left = TimeLeft()
    time_left.restart(0.0, done=0)
    assert time_left.is_due(0.0, 0, 9)
    assert not time_left.is_due(INTERVAL / 2, 1, 9)
    assert time_left.is_due(INTERVAL, 2, 9)
    assert time_left.is_due(INTERVAL * 1.1, 9, 9)
    time_left.restart(INTERVAL * 1.2, done=0)
    assert time_left.is_due(INTERVAL * 1.2, 0, 9), "another node's first report"
