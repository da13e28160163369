"""A figure: something measured, next to what it is to reach."""

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
    """`value` in `unit`, to be `bound` `target`; a value of None was not measured, see `detail`.

    group: the name it is asked for by. detail: numbers it was made from, plain JSON values.
    passed: whether the target is reached, None for what was not measured.
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
    """A figure that is good when it is high."""
    return Figure(group, name, value, target, "at least", unit, detail or {})


def at_most(
    group: str, name: str, value: float | None, target: float, unit: str = "",
    detail: dict[str, Any] | None = None,
) -> Figure:  # fmt: skip
    """A figure that is good when it is low."""
    return Figure(group, name, value, target, "at most", unit, detail or {})


def shown(value: float | None, unit: str) -> str:
    """A number with its unit, as short as it can be told from its neighbours."""
    if value is None:
        return "not measured"
    digits = 3 if unit == "" else 2 if unit in ("dB", "GB") else 1
    return f"{value:.{digits}f} {unit}".strip()


def table(figures: Sequence[Figure], *, details: bool = True) -> Table:
    """All figures as a table for a terminal."""
    made = Table(title="Figures of the embedded family")
    for heading in ("figure", "measured", "to reach", ""):
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
    """All figures as a JSON list of objects."""
    return json.dumps([asdict(one) for one in figures], indent=2)
