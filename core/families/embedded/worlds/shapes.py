"""The world `shapes`: one or two coloured shapes that move on a plain or patterned background.

`shapes_scenes` samples the scenes; this module has their captions, rendering and motion. Lengths
are in units of 1/64 of the shorter image side, times in base frames (a base video is 0..15).
"""

from __future__ import annotations

from math import cos, pi, sin

import numpy as np

from .raster import Box, blend, height_width, paint, per_frame, pulse, ramp, sweep, window
from .shapes_scenes import (
    BACKGROUNDS,
    COLORS,
    DIRECTIONS,
    INTERVALS,
    LARGE,
    MOTIONS,
    REACH,
    SHAPES,
    SMALL,
    UNITS,
    ShapeObject,
    ShapesScene,
    sample,
    shapes_scene,
)

__all__ = [
    "BACKGROUNDS", "COLORS", "DIRECTIONS", "MOTIONS", "SHAPES", "ShapesScene", "boxes", "caption",
    "edge_motions", "flow", "render", "sample", "shapes_scene",
]  # fmt: skip

# Captions and boxes.


def caption(scene: ShapesScene, *, motion: bool = True) -> str:
    """Describe the objects and the background; without `motion`, what a still image shows."""
    parts = [
        f"a {thing.color} {thing.shape}" + (f" {thing.motion}" if motion else "")
        for thing in scene.objects
    ]
    return f"{' and '.join(parts)} on a {scene.background} background"


def words() -> set[str]:
    """Every word of the captions."""
    return set(" ".join(("a and on background", *COLORS, *SHAPES, *MOTIONS, *BACKGROUNDS)).split())


def boxes(
    scene: ShapesScene, time: float = 0.0, *, size: int | tuple[int, int] = 64
) -> tuple[Box, ...]:
    """Bounding boxes of a circle around each object, clipped to the image."""
    height, width = height_width(size)
    found = []
    for thing in scene.objects:
        x, y, radius, _ = (float(v[0]) for v in _state(thing, np.array([time]), height, width))
        reach = radius * (1.0 if thing.shape == "circle" else REACH)
        found.append(
            Box(
                label=f"{thing.color} {thing.shape}",
                x0=max((x - reach) / width, 0.0),
                y0=max((y - reach) / height, 0.0),
                x1=min((x + reach) / width, 1.0),
                y1=min((y + reach) / height, 1.0),
            )
        )
    return tuple(found)


def edge_motions(scene: ShapesScene) -> np.ndarray:
    """The mean motion over a base video of each object's left, right, upper and lower edge:
    `[objects, 4, 2]` as (x, y) in fractions of the image's side per base frame.
    """
    outward = np.array([(-1, 0), (1, 0), (0, -1), (0, 1)], dtype=np.float64)
    clockwise = np.stack([-outward[:, 1], outward[:, 0]], axis=1)
    found = []
    for thing in scene.objects:
        state = np.stack(_state(thing, np.array([0.0, INTERVALS]), int(UNITS), int(UNITS)))
        x, y, grown, turned = (state[:, 1] - state[:, 0]) / UNITS / INTERVALS
        around = turned * thing.radius * clockwise
        found.append(np.array([x, y]) + grown * outward + around)
    return np.stack(found)


# Rendering.


def _state(thing: ShapeObject, times: np.ndarray, height: int, width: int) -> list[np.ndarray]:
    """Centre x, centre y, radius (pixels) and angle (radians), each `[t]`."""
    phase = np.asarray(times, dtype=np.float64) / INTERVALS
    scale = min(height, width) / UNITS
    x, y = np.full(phase.shape, thing.x), np.full(phase.shape, thing.y)
    radius, angle = np.full(phase.shape, thing.radius), np.full(phase.shape, thing.angle)
    if thing.motion in DIRECTIONS:
        dx, dy = DIRECTIONS[thing.motion]
        path = thing.amount * sweep(phase)
        x, y = x + dx * path, y + dy * path
    elif thing.motion == "rotates":
        angle = angle + thing.amount * phase
    else:
        grown = sweep(phase) if thing.motion == "grows" else 1 - sweep(phase)
        radius = radius * (SMALL + (LARGE - SMALL) * grown)
    left, top = (width - scale * UNITS) / 2, (height - scale * UNITS) / 2
    return [left + scale * x, top + scale * y, scale * radius, angle]


def _local(state: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixel positions in the object's own, rotated axes (still in pixels)."""
    centre_x, centre_y, _, angle = (per_frame(v) for v in state)
    dx, dy = x - centre_x, y - centre_y
    if not np.any(angle):
        return np.broadcast_arrays(dx, dy)
    c, s = np.cos(angle), np.sin(angle)
    return c * dx + s * dy, c * dy - s * dx


def _inside(shape: str, x: np.ndarray, y: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """The signed distance to the edge in pixels, positive inside (y points down)."""
    if shape == "circle":
        return radius - np.sqrt(x * x + y * y)
    if shape == "square":
        return np.float32(0.82) * radius - np.maximum(np.abs(x), np.abs(y))
    if shape == "triangle":
        slope = np.abs(x) * np.float32(cos(pi / 6)) - y * np.float32(0.5)
        return radius * np.float32(REACH / 2) - np.maximum(y, slope)
    return _inside_star(x, y, radius)


def _inside_star(x: np.ndarray, y: np.ndarray, radius: np.ndarray) -> np.ndarray:
    # Two reflections at the axis 36 degrees from a tip fold the plane into one tenth of the star,
    # which is bounded by the line from the tip to the inner corner.
    along_x, along_y = np.float32(cos(pi / 5)), np.float32(sin(pi / 5))
    x, y = np.abs(x), -y
    for _ in range(2):
        beyond = np.maximum(along_x * x - along_y * y, 0)
        beyond *= 2
        x, y = np.abs(x - along_x * beyond), y + along_y * beyond
    inner = 0.5
    edge = np.array([inner * sin(pi / 5), inner * cos(pi / 5) - 1])
    normal = np.array([-edge[1], edge[0]]) / np.hypot(*edge)
    nx, ny = np.float32(normal[0]), np.float32(normal[1])
    return ny * np.float32(REACH) * radius - (nx * x + ny * y)


def _background(scene: ShapesScene, height: int, width: int) -> np.ndarray:
    """The background `[3, h, w]`."""
    low, high = (np.array(c, dtype=np.float32).reshape(3, 1, 1) for c in (scene.low, scene.high))
    unit = UNITS / min(height, width)
    x = (np.arange(width) + 0.5) * unit
    y = (np.arange(height) + 0.5)[:, None] * unit
    period, phase, angle = scene.pattern_period, scene.pattern_phase, scene.pattern_angle
    if scene.background == "checkerboard":
        columns = 2 * pulse(x / period + phase, unit / period, 0.5) - 1
        rows = 2 * pulse(y / period + phase, unit / period, 0.5) - 1
        mix = 0.5 + 0.5 * columns * rows
    elif scene.background == "striped":
        along = (x * cos(angle) + y * sin(angle)) / period + phase
        # The footprint of a square pixel along a slanted direction.
        footprint = unit * max(abs(cos(angle)), abs(sin(angle))) / period
        mix = pulse(along, footprint, 0.5)
    elif scene.background == "gradient":
        along = (x - UNITS / 2) * cos(angle) + (y - UNITS / 2) * sin(angle)
        mix = np.clip(0.5 + along / UNITS * 1.2, 0, 1) * 1.6 - 0.4
    else:
        mix = np.zeros((height, width))
    return low + (high - low) * np.broadcast_to(mix, (height, width)).astype(np.float32)


def render(scene: ShapesScene, *, times: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """Render float32 `[t, 3, h, w]` in [-1, 1]."""
    height, width = height_width(size)
    times = np.atleast_1d(np.asarray(times, dtype=np.float64))
    canvas = np.empty((len(times), 3, height, width), dtype=np.float32)
    canvas[:] = _background(scene, height, width)
    for thing in scene.objects:
        _draw(canvas, thing, times)
    canvas *= 2
    canvas -= 1
    return canvas


def _draw(canvas: np.ndarray, thing: ShapeObject, times: np.ndarray) -> None:
    height, width = canvas.shape[-2:]
    state = _state(thing, times, height, width)
    x, y, radius, _ = state
    reach = REACH * radius
    area = window(height, width, x - reach, y - reach, x + reach, y + reach)
    if area is None:
        return
    u, v = _local(state, area.x, area.y)
    radius = per_frame(radius)
    cover = ramp(_inside(thing.shape, u, v, radius))
    # Soft light from the upper left, fixed to the surface so that it moves along with it.
    light = (u + v) * (np.float32(-0.07) / radius) + np.float32(0.93)
    np.minimum(light, 1, out=light)
    view = canvas[:, :, area.rows, area.columns]
    blend(view, cover, paint(thing.rgb) * light[:, None])


# Motion.


def flow(
    scene: ShapesScene, *, time: float, next_time: float, size: int | tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Displacements `[2, h, w]` (dx, dy in pixels) from `time` to `next_time`, and a mask `[h, w]`.

    The mask is 1 where the pixel shows a single surface that is visible again.
    """
    height, width = height_width(size)
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    owner, pure = _owner(scene, time, x, y, height, width)
    moved_x, moved_y = x.copy(), y.copy()
    for index, thing in enumerate(scene.objects):
        before = _state(thing, np.array([time]), height, width)
        after = _state(thing, np.array([next_time]), height, width)
        u, v = (a[0] for a in _local(before, x, y))
        scale, turn = after[2][0] / before[2][0], after[3][0]
        new_x = after[0][0] + scale * (cos(turn) * u - sin(turn) * v)
        new_y = after[1][0] + scale * (sin(turn) * u + cos(turn) * v)
        mine = owner == index
        moved_x[mine], moved_y[mine] = new_x[mine], new_y[mine]
    owner_then, pure_then = _owner(scene, next_time, moved_x, moved_y, height, width)
    seen = (moved_x > 0.5) & (moved_x < width - 0.5) & (moved_y > 0.5) & (moved_y < height - 0.5)
    if time == next_time:
        return np.zeros((2, height, width), np.float32), np.ones((height, width), np.float32)
    on_border = (moved_x == x) & (moved_y == y)
    valid = pure & pure_then & (owner == owner_then) & (seen | on_border)
    return np.stack([moved_x - x, moved_y - y]).astype(np.float32), valid.astype(np.float32)


def _owner(
    scene: ShapesScene, time: float, x: np.ndarray, y: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """The topmost object's index at each point (-1: background), and whether no edge is near."""
    owner = np.full(x.shape, -1)
    pure = np.ones(x.shape, dtype=bool)
    for index, thing in enumerate(scene.objects):
        state = _state(thing, np.array([time]), height, width)
        u, v = _local(state, x, y)
        inside = _inside(thing.shape, u, v, per_frame(state[2]))[0]
        owner[inside > 0] = index
        # Sampling reaches one pixel in each direction.
        pure = np.where(inside > 1.5, True, pure & (inside < -1.5))
    return owner, pure
