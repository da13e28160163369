"""The courses of :mod:`.lvdm_claims` as an SVG picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

from ..media.svg import document, level, text

if TYPE_CHECKING:
    from .lvdm_claims import Claims, Course

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 360, 60, 190, 30, 50
COLORS = ("#888888", "#1a7f37", "#0969da", "#bf8700", "#cf222e", "#8250df")
TICKS = 4


def write_plot(path: Path, claims: Claims, measure: str = "distance") -> Path:
    """Write a picture with a line for each variant, the mean of its seeds, in a band from the
    lowest to the highest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(svg(claims, measure))
    return path


def svg(claims: Claims, measure: str) -> str:
    values = {name: _columns(courses, measure) for name, courses in claims.courses.items()}
    top = 1.05 * max(max(column) for columns in values.values() for column in columns)
    parts = _axes(top, claims.length.frames, measure)
    for k, ((name, columns), color) in enumerate(zip(values.items(), COLORS, strict=False)):
        parts += _line(columns, top, color)
        y = TOP + 18 * k + 12
        parts.append(text(WIDTH - RIGHT + 14, y, name, f'fill="{color}"'))
    return document(WIDTH, HEIGHT, parts)


def _columns(courses: Sequence[Course], measure: str) -> list[tuple[float, ...]]:
    """The values of all seeds for each window."""
    return list(zip(*(one.by_name[measure] for one in courses), strict=True))


def _x(share: float) -> float:
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _line(columns: list[tuple[float, ...]], top: float, color: str) -> list[str]:
    xs = [_x((k + 0.5) / len(columns)) for k in range(len(columns))]

    def points(pick) -> list[str]:
        return [
            f"{x:.1f},{_y(pick(column) / top):.1f}" for x, column in zip(xs, columns, strict=True)
        ]

    band = " ".join([*points(max), *reversed(points(min))])
    return [
        f'<polygon points="{band}" fill="{color}" opacity="0.15"/>',
        f'<polyline points="{" ".join(points(mean))}" fill="none" stroke="{color}" '
        'stroke-width="2"/>',
    ]


def _axes(top: float, frames: int, measure: str) -> list[str]:
    parts = [text(LEFT, TOP - 12, f"{measure} to real clips", "")]
    for k in range(TICKS + 1):
        share = k / TICKS
        parts += [
            level(_x(0), _x(1), _y(share)),
            text(LEFT - 6, _y(share) + 4, f"{share * top:.2g}", 'text-anchor="end"'),
            text(_x(share), HEIGHT - BOTTOM + 18, str(round(share * frames)),
                  'text-anchor="middle"'),
        ]  # fmt: skip
    return [*parts, text(_x(0.5), HEIGHT - 12, "frame", 'text-anchor="middle"')]
