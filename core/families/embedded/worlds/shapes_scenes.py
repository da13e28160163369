"""Scenes of the world `shapes`: its vocabulary, and objects placed so that they stay in view.

Lengths are in units of 1/64 of the shorter image side, times in base frames (0..15 in training).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi

import numpy as np

from .raster import OVERSHOOT

WORLD_ID = 1
UNITS = 64.0
INTERVALS = 15.0

COLORS = {
    "red": (1.0, 0.0, 0.0),
    "green": (0.0, 1.0, 0.0),
    "blue": (0.0, 0.0, 1.0),
    "yellow": (1.0, 1.0, 0.0),
    "magenta": (1.0, 0.0, 1.0),
    "cyan": (0.0, 1.0, 1.0),
    "white": (1.0, 1.0, 1.0),
}
SHAPES = ("circle", "square", "triangle", "star")
DIRECTIONS = {
    "moves left": (-1.0, 0.0),
    "moves right": (1.0, 0.0),
    "moves up": (0.0, -1.0),
    "moves down": (0.0, 1.0),
}
MOTIONS = (*DIRECTIONS, "rotates", "grows", "shrinks")
PLAIN_BACKGROUNDS = {
    "black": (0.02, 0.02, 0.03),
    "gray": (0.36, 0.36, 0.37),
    "dark blue": (0.05, 0.08, 0.26),
    "dark green": (0.04, 0.20, 0.10),
}
BACKGROUNDS = (*PLAIN_BACKGROUNDS, "gradient", "checkerboard", "striped")
# Pairs of muted colours for the patterned backgrounds.
PATTERN_COLORS = (
    ((0.13, 0.14, 0.20), (0.25, 0.26, 0.34)),
    ((0.22, 0.17, 0.15), (0.34, 0.27, 0.23)),
    ((0.12, 0.18, 0.18), (0.21, 0.30, 0.29)),
    ((0.20, 0.14, 0.21), (0.31, 0.23, 0.32)),
)
# No point of a shape is further from its centre than this many radii.
REACH = 1.15
SMALL, LARGE = 0.6, 1.25
MARGIN = 0.6

ObjectSpec = tuple[str, str, str]


@dataclass(frozen=True, kw_only=True)
class ShapeObject:
    """One object; `x`, `y`, `angle` (radians) hold at time 0, `radius` before growing or shrinking.

    `amount` is the change over a base video: a distance, or an angle (always clockwise, so that the
    caption determines all of the motion but its speed); unused for growing and shrinking.
    """

    color: str
    shape: str
    motion: str
    rgb: tuple[float, float, float]
    x: float
    y: float
    radius: float
    angle: float
    amount: float


@dataclass(frozen=True, kw_only=True)
class ShapesScene:
    """Everything a rendering depends on; later objects lie above earlier ones."""

    objects: tuple[ShapeObject, ...]
    background: str
    low: tuple[float, float, float]
    high: tuple[float, float, float]
    pattern_angle: float
    pattern_period: float
    pattern_phase: float


# Sampling.


def sample(seed: int) -> ShapesScene:
    """Sample a scene with one object or two."""
    rng = np.random.default_rng((WORLD_ID, seed))
    specs = [_sample_spec(rng) for _ in range(1 + int(rng.random() < 0.4))]
    while len(specs) == 2 and specs[0][:2] == specs[1][:2]:
        specs[1] = _sample_spec(rng)
    return _build(rng, specs, str(rng.choice(BACKGROUNDS)))


def shapes_scene(
    seed: int, *, objects: Sequence[ObjectSpec], background: str | None = None
) -> ShapesScene:
    """A scene with the requested `(color, shape, motion)` objects; the seed decides the rest."""
    for color, shape, motion in objects:
        _check("colour", color, COLORS)
        _check("shape", shape, SHAPES)
        _check("motion", motion, MOTIONS)
        if (shape, motion) == ("circle", "rotates"):
            raise ValueError("a circle cannot be seen to rotate")
    if len(objects) not in (1, 2):
        raise ValueError(f"a scene holds 1 or 2 objects, not {len(objects)}")
    rng = np.random.default_rng((WORLD_ID, seed))
    background = str(rng.choice(BACKGROUNDS)) if background is None else background
    _check("background", background, BACKGROUNDS)
    return _build(rng, list(objects), background)


def _check(what: str, name: str, known: Sequence[str] | dict[str, object]) -> None:
    if name not in known:
        raise ValueError(f"unknown {what} {name!r}, expected one of {', '.join(known)}")


def _sample_spec(rng: np.random.Generator) -> ObjectSpec:
    shape = str(rng.choice(SHAPES))
    motions = [m for m in MOTIONS if (shape, m) != ("circle", "rotates")]
    return str(rng.choice(list(COLORS))), shape, str(rng.choice(motions))


def _build(rng: np.random.Generator, specs: list[ObjectSpec], background: str) -> ShapesScene:
    cells = _cells([motion for _, _, motion in specs])
    objects = tuple(_place(rng, spec, cell) for spec, cell in zip(specs, cells, strict=True))
    if background in PLAIN_BACKGROUNDS:
        low = high = _jitter(rng, PLAIN_BACKGROUNDS[background], 0.02)
    else:
        pair = PATTERN_COLORS[rng.integers(len(PATTERN_COLORS))]
        low, high = (_jitter(rng, color, 0.02) for color in pair)
    return ShapesScene(
        objects=objects,
        background=background,
        low=low,
        high=high,
        pattern_angle=float(rng.uniform(0, pi)),
        pattern_period=float(rng.uniform(12, 18)),
        pattern_phase=float(rng.random()),
    )


def _jitter(
    rng: np.random.Generator, rgb: tuple[float, float, float], amount: float
) -> tuple[float, float, float]:
    red, green, blue = np.clip(rgb + rng.uniform(-amount, amount, 3), 0, 1).tolist()
    return red, green, blue


def _cells(motions: list[str]) -> list[tuple[float, ...]]:
    """A rectangle `x0, y0, x1, y1` for each object, long enough for its motion.

    Of two objects, the first is on the left, or on top if one moves sideways and none moves up or
    down: so the caption determines which is where.
    """
    if len(motions) == 1:
        return [(0.0, 0.0, UNITS, UNITS)]
    axes = [_axis(motion) for motion in motions]
    if "x" in axes and "y" in axes:
        # The one that moves sideways leaves a column for the other.
        cut = 46.0 if axes[0] == "x" else UNITS - 46.0
    else:
        cut = UNITS / 2
    if "x" in axes and "y" not in axes:
        return [(0.0, 0.0, UNITS, cut), (0.0, cut, UNITS, UNITS)]
    return [(0.0, 0.0, cut, UNITS), (cut, 0.0, UNITS, UNITS)]


def _axis(motion: str) -> str:
    step = DIRECTIONS.get(motion)
    return "" if step is None else "x" if step[0] else "y"


def _place(rng: np.random.Generator, spec: ObjectSpec, cell: tuple[float, ...]) -> ShapeObject:
    """Choose radius, distance and start so that the object never leaves its cell."""
    color, shape, motion = spec
    sides = np.array([cell[2] - cell[0], cell[3] - cell[1]])
    if min(sides) == UNITS:
        radius = rng.uniform(8, 13)
    else:
        radius = rng.uniform(7, min(10, (sides.min() / 2 - MARGIN) / REACH))
    direction = np.array(DIRECTIONS.get(motion, (0.0, 0.0)))
    if "x" == _axis(motion) and sides[0] < UNITS / 1.2:
        radius = rng.uniform(6.8, 7.0)
    largest = LARGE + (LARGE - SMALL) * OVERSHOOT
    reach = REACH * radius * (largest if motion in ("grows", "shrinks") else 1.0)
    free = np.maximum(sides - 2 * (reach + MARGIN), 0)
    if motion in DIRECTIONS:
        room = float(free @ np.abs(direction)) / (1 + 2 * OVERSHOOT)
        amount = rng.uniform(min(24, room), min(36, room))
    else:
        # Slow enough that a third of the video does not turn a star or a square into itself.
        amount = rng.uniform(pi / 3, 3 * pi / 5)
    travel = direction * amount
    low = reach + MARGIN + np.maximum(-travel, 0) + OVERSHOOT * np.abs(travel)
    high = sides - reach - MARGIN - np.maximum(travel, 0) - OVERSHOOT * np.abs(travel)
    x, y = low + rng.random(2) * np.maximum(high - low, 0) + cell[:2]
    return ShapeObject(
        color=color,
        shape=shape,
        motion=motion,
        rgb=_jitter(rng, COLORS[color], 0.05),
        x=float(x),
        y=float(y),
        radius=float(radius),
        angle=float(rng.uniform(-0.12, 0.12)),
        amount=float(amount),
    )
