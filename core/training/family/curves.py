"""The course of the training as an SVG picture: a panel for each part, its loss over its time."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path

WIDTH, PANEL, LEFT, RIGHT, HEAD = 760, 130, 60, 20, 24
"""In pixels: of the picture, the height of a part's panel, and what is around its curve."""


def write_curves(path: Path, logs: list[Path]) -> None:
    """Draw the column `loss` of every log that has rows, on a logarithmic scale."""
    named = [(log.stem, _losses(log)) for log in logs if log.is_file()]
    drawn = [(name, points) for name, points in named if points]
    parts = [line for row, one in enumerate(drawn) for line in _panel(row * PANEL, *one)]
    height = PANEL * max(1, len(drawn)) + 8
    start = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
    )
    path.write_text("\n".join([*start, *parts, "</svg>"]) + "\n", encoding="utf-8")


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
    yield _text(LEFT, top + 16, name, 'font-weight="bold"')
    for share in (0.0, 0.5, 1.0):
        y = floor - share * tall
        yield (
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dddddd"/>'
        )
        value = math.exp(low + share * (high - low))
        yield _text(LEFT - 6, y + 4, f"{value:.3g}", 'text-anchor="end"')
    line = " ".join(
        f"{LEFT + progress * (WIDTH - LEFT - RIGHT):.1f},"
        f"{floor - (value - low) / (high - low) * tall:.1f}"
        for (progress, _), value in zip(points, values, strict=True)
    )
    yield f'<polyline points="{line}" fill="none" stroke="#0969da" stroke-width="1.5"/>'


def _text(x: float, y: float, text: str, attributes: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {attributes}>{text}</text>'
