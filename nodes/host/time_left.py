"""Remaining time of a run, estimated from its speed so far."""

from __future__ import annotations

from dataclasses import dataclass

INTERVAL = 0.2
"""Least seconds between two reports, so that quick steps do not flood the browser."""


@dataclass
class TimeLeft:
    """The speed of a node: `begin` is the time of its first report, `at` what was done by then."""

    begin: float | None = None
    at: float = 0.0
    reported: float = float("-inf")

    def restart(self, now: float, done: float) -> None:
        """Start over with a node whose first report is `done`.

        Time before the first report (loading, preparing the first step) is not counted.
        """
        self.begin, self.at, self.reported = now, done, float("-inf")

    def is_due(self, now: float, done: float, total: float) -> bool:
        """Whether to pass on this report; the last one always is."""
        due = now - self.reported >= INTERVAL or done >= total
        self.reported = now if due else self.reported
        return due

    def seconds(self, now: float, done: float, total: float) -> float | None:
        """Seconds until `total`, at the speed so far; None before the second report."""
        if self.begin is None or done <= self.at:
            return None
        return (now - self.begin) / (done - self.at) * max(total - done, 0.0)
