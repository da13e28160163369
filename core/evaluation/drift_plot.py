"""The courses of :mod:`.drift` as a table and as an SVG picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from ..media.svg import document, level, text
from .drift import MEASURES, Course

WIDTH, PANEL, LEFT, RIGHT, HEAD = 760, 150, 50, 20, 24
"""In pixels: width of the picture, height of a panel, and the margins of its curves."""
LEGEND_ROW, LEGEND_COLUMNS = 20, 3
COLORS = ("#cf222e", "#f59f8f", "#0969da", "#8ec5f5", "#bf8700", "#8250df", "#1a7f37")
TICKS, POINTS = 4, 100
"""Intervals of the x axis; points of a curve, each the mean over a part of the video."""


def table(found: Mapping[str, Course], frames: int) -> str:
    """A Markdown table: each measure in the first and the last fifth of the video."""
    lines = [f"| strategy, {frames} frames | {' | '.join(MEASURES)} |"]
    lines.append("| --- |" + " ---: |" * len(MEASURES))
    for name, course in found.items():
        parts = [course.parts(one) for one in MEASURES]
        cells = [f"{first:.3f} → {last:.3f}" for first, *_, last in parts]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def write_plot(path: Path, found: Mapping[str, Course], frames: int) -> Path:
    """Write a picture with a panel for each measure and a line for each strategy."""
    path.write_text(svg(found, frames), encoding="utf-8")
    return path


def svg(found: Mapping[str, Course], frames: int) -> str:
    colors = dict(zip(found, COLORS, strict=False))
    rows = -(-len(found) // LEGEND_COLUMNS)
    height = PANEL * len(MEASURES) + LEGEND_ROW * (rows + 2)
    parts = []
    for row, measure in enumerate(MEASURES):
        values = {name: course.parts(measure, POINTS) for name, course in found.items()}
        parts += _panel(row * PANEL, measure, values, colors)
    bottom = PANEL * len(MEASURES)
    parts += [
        text(_x(k / TICKS), bottom + 14, str(round(k / TICKS * frames)), 'text-anchor="middle"')
        for k in range(TICKS + 1)
    ]
    parts += _legend(bottom + 2 * LEGEND_ROW, colors)
    return document(WIDTH, height, parts)


def _panel(
    top: float, measure: str, values: Mapping[str, list[float]], colors: Mapping[str, str]
) -> Iterator[str]:
    """The curves of a measure, on an axis from 0 to its highest value."""
    most = max(max(one, default=0.0) for one in values.values()) or 1.0
    floor, high = top + PANEL - 8, PANEL - HEAD - 8
    yield text(LEFT, top + 16, measure, 'font-weight="bold"')
    for share in (0.0, 0.5, 1.0):
        y = floor - share * high
        yield level(LEFT, WIDTH - RIGHT, y)
        yield text(LEFT - 6, y + 4, f"{share * most:.2g}", 'text-anchor="end"')
    for name, course in values.items():
        points = " ".join(
            f"{_x((k + 0.5) / len(course)):.1f},{floor - value / most * high:.1f}"
            for k, value in enumerate(course)
        )
        yield (
            f'<polyline points="{points}" fill="none" stroke="{colors[name]}" stroke-width="1.5"/>'
        )


def _legend(top: float, colors: Mapping[str, str]) -> Iterator[str]:
    wide = (WIDTH - LEFT - RIGHT) / LEGEND_COLUMNS
    for k, (name, color) in enumerate(colors.items()):
        row, column = divmod(k, LEGEND_COLUMNS)
        y = top + LEGEND_ROW * row
        yield text(LEFT + wide * column, y, name, f'fill="{color}" font-weight="bold"')


def _x(share: float) -> float:
    return LEFT + share * (WIDTH - LEFT - RIGHT)
