"""How long a run still takes, from how far it has come."""

from __future__ import annotations

from dataclasses import dataclass

BETWEEN = 0.2
"""Seconds between two reports, so that quick steps do not flood the browser."""


@dataclass
class Pace:
    """Of one node: `begin` is when its first report came, `at` how much was done by then."""

    begin: float | None = None
    at: float = 0.0
    told: float = float("-inf")

    def restart(self, now: float, done: float) -> None:
        """Begin anew with a node whose first report is `done`.

        What came before the first report (loading, the first step's preparations) is left out.
        """
        self.begin, self.at, self.told = now, done, float("-inf")

    def is_due(self, now: float, done: float, total: float) -> bool:
        """Whether to tell of this report; the last one always is told."""
        due = now - self.told >= BETWEEN or done >= total
        self.told = now if due else self.told
        return due

    def left(self, now: float, done: float, total: float) -> float | None:
        """Seconds until `total`, at the speed so far; None before the second report."""
        if self.begin is None or done <= self.at:
            return None
        return (now - self.begin) / (done - self.at) * max(total - done, 0.0)
