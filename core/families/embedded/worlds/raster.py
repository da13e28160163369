"""Anti-aliased drawing on a `[t, 3, h, w]` float32 canvas with values in [0, 1].

Everything is vectorised over frames: a figure is given by arrays of `t` numbers and drawn in the
union of its bounding boxes over all frames, so that small figures are cheap.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor

import numpy as np

# Fraction of a base video's length that a reversal takes at each end (see `sweep`).
REVERSAL = 0.15
# How far `sweep` leaves [0, 1] while it reverses.
OVERSHOOT = REVERSAL / 2


@dataclass(frozen=True, kw_only=True)
class Box:
    """A labelled rectangle in image units: (0, 0) is the top left, (1, 1) the bottom right."""

    label: str
    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True, kw_only=True)
class Video:
    """`frames` float32 [t, 3, h, w] in [-1, 1]; `boxes` belong to the first frame."""

    frames: np.ndarray
    caption: str
    boxes: tuple[Box, ...]


def height_width(size: int | tuple[int, int]) -> tuple[int, int]:
    """`(height, width)`; one number means a square."""
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise ValueError(f"a frame of {height}x{width} pixels cannot be rendered")
    return height, width


def sweep(phase: np.ndarray) -> np.ndarray:
    """Go linearly from 0 to 1 as `phase` does, then back, for ever, with smooth reversals.

    The speed is +1, falls linearly to -1 within 2 * REVERSAL, stays there, and rises again.
    """
    half = 1 + 2 * REVERSAL
    position = np.mod(np.asarray(phase, dtype=np.float64) + REVERSAL, 2 * half) - REVERSAL
    back = position > 1 + REVERSAL
    position = np.where(back, position - half, position)
    # Within REVERSAL of either end the path is a parabola instead of the straight line.
    early = np.clip(-position, 0, None)
    late = np.clip(position - 1, 0, None)
    path = position + early - late
    path = path - _turn(early) + _turn(late)
    return np.where(back, 1 - path, path)


def _turn(distance: np.ndarray) -> np.ndarray:
    return distance - distance**2 / (2 * REVERSAL)


def ramp(inside: np.ndarray) -> np.ndarray:
    """Turn a signed distance in pixels (positive inside) into coverage, in place."""
    inside += 0.5
    np.maximum(inside, 0, out=inside)
    return np.minimum(inside, 1, out=inside)


def band(distance: np.ndarray, half_width: np.ndarray | float) -> np.ndarray:
    """Coverage of a stripe, exact however thin; `distance` >= 0 from its axis, in pixels."""
    cover = ramp(half_width - distance)
    cover -= ramp(-half_width - distance)
    return cover


def pulse(position: np.ndarray, width: np.ndarray | float, duty: float) -> np.ndarray:
    """Average a square wave of period 1 (1 during the first `duty`, else 0) over `width`."""
    start, end = position - width / 2, position + width / 2
    return (_pulse_area(end, duty) - _pulse_area(start, duty)) / width


def _pulse_area(position: np.ndarray, duty: float) -> np.ndarray:
    whole = np.floor(position)
    return whole * duty + np.minimum(position - whole, duty)


def per_frame(values: np.ndarray) -> np.ndarray:
    """Reshape numbers `[t]` to float32 `[t, 1, 1]`."""
    return np.asarray(values, dtype=np.float32).reshape(-1, 1, 1)


@dataclass(frozen=True, kw_only=True)
class Window:
    """The pixels of a canvas that a figure may touch, and their centres in pixels."""

    rows: slice
    columns: slice
    x: np.ndarray  # [1, 1, columns]
    y: np.ndarray  # [1, rows, 1]


def window(
    height: int, width: int, x0: np.ndarray, y0: np.ndarray, x1: np.ndarray, y1: np.ndarray
) -> Window | None:
    """Enclose the boxes (in pixels) of all frames; None if nothing is visible in any frame."""
    left, right = max(floor(np.min(x0)) - 1, 0), min(floor(np.max(x1)) + 2, width)
    top, bottom = max(floor(np.min(y0)) - 1, 0), min(floor(np.max(y1)) + 2, height)
    if left >= right or top >= bottom:
        return None
    x = np.arange(left, right, dtype=np.float32)[None, None] + np.float32(0.5)
    y = np.arange(top, bottom, dtype=np.float32)[None, :, None] + np.float32(0.5)
    return Window(rows=slice(top, bottom), columns=slice(left, right), x=x, y=y)


def blend(view: np.ndarray, cover: np.ndarray, color: np.ndarray) -> None:
    """Blend `color` (broadcastable to `[t, 3, h, w]`) into `view`, by `cover` `[t, h, w]`."""
    change = color - view
    change *= cover[:, None]
    view += change


def paint(rgb: object) -> np.ndarray:
    """Reshape colours `[3]` or `[t, 3]` to float32 `[1 or t, 3, 1, 1]`."""
    return np.asarray(rgb, dtype=np.float32).reshape(-1, 3, 1, 1)
