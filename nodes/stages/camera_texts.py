"""Parse camera moves or poses. Loads no torch."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ...core.graph.messages import written

NUMBERS = 19
"""Per pose in RealEstate10K's format: time, fx, fy, cx, cy, two unused, world to camera 3x4."""
MOVES: Mapping[str, tuple[float, Mapping[str, float]]] = {
    "pan": (20, {"right": 1, "left": -1}),
    "tilt": (20, {"down": 1, "up": -1}),
    "roll": (20, {"clockwise": 1, "anticlockwise": -1, "right": 1, "left": -1}),
    "truck": (1, {"right": 1, "left": -1}),
    "pedestal": (1, {"down": 1, "up": -1}),
    "zoom": (1, {"in": 1, "out": -1}),
}
"""Default amount and the sign of each direction: rotations in degrees, translations in the units of
RealEstate10K's scenes, roughly metres."""

_RANGE = re.compile(r"^(?:(\d{1,6})\s*-\s*(\d{1,6})\s*:)?\s*(.*)$")
_MOVE = re.compile(r"^(\w+)\s+(\w+)(?:\s+([0-9]{1,6}(?:\.[0-9]{1,6})?|\.[0-9]{1,6}))?$")


@dataclass(frozen=True)
class Move:
    """A move in the camera's own axes, at constant speed over the frames first .. last."""

    kind: str
    amount: float
    first: int
    last: int


def read_camera(text: str, frames: int) -> list[Move] | list[list[float]]:
    """Parse moves for a video of `frames` frames, or poses, 19 numbers per line; lines with a URL
    are skipped among poses. Raises ValueError for anything else."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines and len(lines[-1].split()) == NUMBERS:
        return [_pose(line) for line in lines if "://" not in line]
    return [move for line in lines for move in _moves(line, frames)]


def _moves(line: str, frames: int) -> list[Move]:
    first, last, rest = _RANGE.match(line).groups()
    first, last = (int(first), int(last)) if last else (0, frames - 1)
    if not first < last < frames and frames > 1:
        raise ValueError(
            f"the frames {first}-{last} of {written(line)} do not lie in order in a video of "
            f"{frames} frames"
        )
    parts = [part.strip() for part in rest.split(",") if part.strip()]
    return [_move(part, first, last) for part in parts]


def _move(text: str, first: int, last: int) -> Move:
    found = _MOVE.match(text.lower())
    usual, directions = MOVES.get(found[1], (0, {})) if found else (0, {})
    if not found or found[2] not in directions:
        known = "; ".join(f"{name} {', '.join(ways)}" for name, (_, ways) in MOVES.items())
        raise ValueError(f"the camera move {written(text)} is not known, known are {known}")
    amount = float(found[3]) if found[3] else usual
    return Move(found[1], directions[found[2]] * amount, first, last)


def _pose(line: str) -> list[float]:
    parts = line.split()
    if len(parts) != NUMBERS:
        raise ValueError(f"a pose has {NUMBERS} numbers, but {written(line)} has {len(parts)}")
    try:
        numbers = [float(one) for one in parts]
    except ValueError:
        raise ValueError(f"the pose {written(line)} holds something that is not a number") from None
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"the pose {written(line)} holds numbers that are not finite")
    return numbers
