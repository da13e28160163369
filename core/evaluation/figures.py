"""Figures: measured values with their targets, as lines, tables and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from rich.table import Table

Bound = Literal["at least", "at most"]


@dataclass(frozen=True)
class Figure:
    """A `value` in `unit` that should be `bound` `target`; None if it was skipped.

    group: its group on the command line. detail: the numbers behind it as plain JSON values, or the
    reason under "skipped". passed: whether the target is reached, None if skipped; NaN fails.
    """

    group: str
    name: str
    value: float | None
    target: float
    bound: Bound
    unit: str = ""
    detail: dict[str, Any] = field(default_factory=dict)
    passed: bool | None = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "passed", None if self.value is None else self._reached())

    def _reached(self) -> bool:
        if math.isnan(self.value):
            return False
        return self.value >= self.target if self.bound == "at least" else self.value <= self.target

    def line(self) -> str:
        """One line of text."""
        verdict = {True: "reached", False: "MISSED", None: "SKIPPED"}[self.passed]
        reason = f" ({self.detail['skipped']})" if "skipped" in self.detail else ""
        return f"{self.name}: {shown(self.value, self.unit)}, {self.wanted}: {verdict}{reason}"

    @property
    def wanted(self) -> str:
        return f"{self.bound} {shown(self.target, self.unit)}"


def at_least(
    group: str, name: str, value: float | None, target: float, unit: str = "",
    detail: dict[str, Any] | None = None,
) -> Figure:  # fmt: skip
    """A figure whose target is a lower bound."""
    return Figure(group, name, value, target, "at least", unit, detail or {})


def at_most(
    group: str, name: str, value: float | None, target: float, unit: str = "",
    detail: dict[str, Any] | None = None,
) -> Figure:  # fmt: skip
    """A figure whose target is an upper bound."""
    return Figure(group, name, value, target, "at most", unit, detail or {})


def shown(value: float | None, unit: str) -> str:
    """Format a number with its unit and the digits that suit the unit."""
    if value is None:
        return "not measured"
    digits = 3 if unit == "" else 2 if unit in ("dB", "GB") else 1
    return f"{value:.{digits}f} {unit}".strip()


def table(figures: Sequence[Figure], *, details: bool = True) -> Table:
    """The figures as a table for a terminal."""
    made = Table(title="Figures of the embedded family")
    for heading in ("figure", "measured", "target", ""):
        made.add_column(heading, overflow="fold")
    if details:
        made.add_column("from", overflow="fold")
    for one in figures:
        mark = {True: "[green]reached", False: "[red]missed", None: "[yellow]skipped"}[one.passed]
        cells = [one.name, shown(one.value, one.unit), one.wanted, mark]
        made.add_row(*cells, *([_detail(one.detail)] if details else []))
    return made


def _detail(detail: dict[str, Any]) -> str:
    return ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in detail.items()
    )


def as_json(figures: Sequence[Figure]) -> str:
    """The figures as a JSON list of objects."""
    return json.dumps([asdict(one) for one in figures], indent=2)
