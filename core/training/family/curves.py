"""Loss curves as an SVG picture: a panel for each part, its loss over its share of the time."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path

from ...media.svg import document, level, text

WIDTH, PANEL, LEFT, RIGHT, HEAD = 760, 130, 60, 20, 24
"""In pixels: width of the picture, height of a panel, and the margins of its curve."""


def write_curves(path: Path, logs: list[Path]) -> None:
    """Plot the column `loss` of every log that has rows, on a logarithmic scale."""
    named = [(log.stem, _losses(log)) for log in logs if log.is_file()]
    drawn = [(name, points) for name, points in named if points]
    parts = [line for row, one in enumerate(drawn) for line in _panel(row * PANEL, *one)]
    height = PANEL * max(1, len(drawn)) + 8
    path.write_text(document(WIDTH, height, parts), encoding="utf-8")


def _losses(log: Path) -> list[tuple[float, float]]:
    """(progress, loss) of each row."""
    with log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = [(float(row["progress"]), float(row["loss"])) for row in rows if row.get("loss")]
    return [point for point in found if point[1] > 0 and math.isfinite(point[1])]


def _panel(top: float, name: str, points: list[tuple[float, float]]) -> Iterator[str]:
    values = [math.log(loss) for _, loss in points]
    low, high = min(values), max(max(values), min(values) + 1e-3)
    floor, tall = top + PANEL - 8, PANEL - HEAD - 8
    yield text(LEFT, top + 16, name, 'font-weight="bold"')
    for share in (0.0, 0.5, 1.0):
        y = floor - share * tall
        yield level(LEFT, WIDTH - RIGHT, y)
        value = math.exp(low + share * (high - low))
        yield text(LEFT - 6, y + 4, f"{value:.3g}", 'text-anchor="end"')
    line = " ".join(
        f"{LEFT + progress * (WIDTH - LEFT - RIGHT):.1f},"
        f"{floor - (value - low) / (high - low) * tall:.1f}"
        for (progress, _), value in zip(points, values, strict=True)
    )
    yield f'<polyline points="{line}" fill="none" stroke="#0969da" stroke-width="1.5"/>'
