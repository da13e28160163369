"""Recognise the road of a video of the world `driving` by rule: the camera's path, the number of
lanes, and the flicker of lane marks. Cars: `car_rules`.

The lines of a straight road meet in the vanishing point. The camera's lateral position is where the
lane marks stand out most; speed and phase are those whose dashes correlate best with the frames.

Frames are [t 3 h w] in [-1, 1]; lengths are in metres of the world.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import NamedTuple

import numpy as np
import torch

from ..families.embedded.worlds.driving import (
    DASH_PERIOD,
    FASTEST,
    INTERVALS,
    LANE_NAMES,
    SLOWEST,
    DrivingScene,
    render,
)
from ..families.embedded.worlds.driving_ground import (
    CAMERA_HEIGHT,
    DASH_DUTY,
    FOCAL,
    HORIZON,
    LANE_WIDTH,
)
from ..families.embedded.worlds.raster import pulse
from ..tasks.optical_flow import LUMA
from .driving_rules import NAMES, measure_frames

BESIDE = 0.5
"""Metres from a mark to the bare road that it is compared with."""
BARE = 0.1
"""Maximum difference in luma, of 1, between the road beside a mark and the empty road; above it,
something covers the road."""
NEAREST_ROW = 3.0
"""Pixels per metre at a height of 64; rows further away resolve no marks."""
WITHIN, AROUND = (-0.06, 0.0, 0.06), (-0.2, 0.2)
"""Metres from the middle of a mark, which is 0.17 wide, to points on it and beside it."""
FURTHEST = {2: 2.8, 3: 1.4}
"""Maximum distance in metres of the camera from the middle of the road, by lanes. Shifted by a
whole lane, all lines but one would coincide again."""
FURTHEST_DRIFT = 2.2
COUNTS = tuple(LANE_NAMES)


@dataclass(frozen=True, kw_only=True)
class Road:
    """camera: lateral position in each frame [t], 0 in the middle. speed: metres per frame. start:
    position of the first frame along the road, modulo DASH_PERIOD."""

    light: str
    lanes: int
    camera: np.ndarray
    speed: float
    start: float


def read_road(frames: np.ndarray, lanes: int | None = None) -> Road:
    """Fit a road to a video; lanes: their number, if known."""
    return most_alike(frames, fitted_roads(frames, COUNTS if lanes is None else (lanes,)))


def fitted_roads(frames: np.ndarray, counts: Sequence[int] = COUNTS) -> list[Road]:
    """Fit a road of each number of lanes to a video."""
    grey = _luma(frames)
    light = measure_frames(torch.from_numpy(np.asarray(frames, np.float32))[None]).light[0]
    name = NAMES[int(light.mode().values)]
    found = []
    for count in counts:
        camera = _fit_camera(grey, count)
        speed, start = _fit_dashes(grey, camera, count)
        found.append(Road(light=name, lanes=count, camera=camera, speed=speed, start=start))
    return found


def most_alike(frames: np.ndarray, roads: Sequence[Road]) -> Road:
    """The road that looks most like the video."""
    return roads[0] if len(roads) == 1 else min(roads, key=lambda road: _distance(frames, road))


def _distance(frames: np.ndarray, road: Road) -> float:
    """Mean absolute difference from the empty road, below the horizon."""
    top = int(HORIZON * frames.shape[-2]) + 2
    true = rendered_road(road, frames.shape[-2:])
    return float(np.abs(frames[..., top:, :] - true[..., top:, :]).mean())


def mark_flicker(frames: np.ndarray, road: Road | None = None) -> float:
    """Flicker of the lane marks: mean |change between frames - change of the fitted road's marks|.

    Measured is the contrast of a mark to the road beside it, in luma, where that is bare.
    """
    road = read_road(frames) if road is None else road
    both = [_luma(frames), _luma(rendered_road(road, frames.shape[-2:]))]
    shown, true = (_marks(grey, road.camera, road.lanes) for grey in both)
    apart = np.where(np.abs(shown.beside - true.beside) < BARE, shown.lighter - true.lighter, nan)
    changes = np.abs(np.diff(apart, axis=0))
    return float(np.nanmean(changes)) if np.isfinite(changes).any() else nan


def rendered_road(road: Road, size: tuple[int, int]) -> np.ndarray:
    """Render the road without cars: frames [t 3 h w]."""
    first, last = road.camera[0], road.camera[-1]
    times = np.arange(len(road.camera), dtype=np.float64)
    # camera_x is the mean position over a base video, and drift the change over it.
    drift = (last - first) / max(times[-1], 1) * INTERVALS
    scene = DrivingScene(
        light=road.light, lanes=road.lanes, side="grass", tree="round", cars=(),
        speed=road.speed, start=road.start, camera_x=first + drift / 2, drift=drift,
        ego="", look=(0.5,) * 12,
    )  # fmt: skip
    return render(scene, times=times, size=size)


# --------------------------------------------------------------------------------------------------
# The road.


def _luma(frames: np.ndarray) -> np.ndarray:
    """Luma [t h w] in [0, 1]."""
    return np.einsum("tchw,c->thw", np.asarray(frames, np.float64), LUMA) / 2 + 0.5


def _rows(height: int) -> tuple[np.ndarray, np.ndarray]:
    """(indices of the rows that resolve marks, their pixels per metre)."""
    scale = (np.arange(height) + 0.5 - HORIZON * height) / CAMERA_HEIGHT
    near = np.flatnonzero(scale >= NEAREST_ROW * height / 64)
    return near, scale[near]


def _across(grey: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Values [t n] of the n rows that resolve marks, `place` [t] metres to the right of the camera;
    NaN outside the frame."""
    rows, scale = _rows(grey.shape[1])
    x = grey.shape[2] / 2 + place[:, None] * scale - 0.5
    inside = (x >= 0) & (x <= grey.shape[2] - 1)
    left = np.clip(np.floor(x).astype(int), 0, grey.shape[2] - 2)
    frame = np.arange(len(grey))[:, None]
    part = x - left
    found = (1 - part) * grey[frame, rows, left] + part * grey[frame, rows, left + 1]
    return np.where(inside, found, np.nan)


class _Marks(NamedTuple):
    """Points on marks [t n]: their contrast to the road beside them, and its luma."""

    lighter: np.ndarray
    beside: np.ndarray


def _mark(grey: np.ndarray, line: float, camera: np.ndarray) -> _Marks:
    """A mark at `line`, compared with the road on its inner side; a mark in the middle with both
    sides."""
    inner = [-np.sign(line) * BESIDE] if line else [-BESIDE, BESIDE]
    beside = np.mean([_across(grey, line + step - camera) for step in inner], axis=0)
    return _Marks(_across(grey, line - camera) - beside, beside)


def _solid(lanes: int) -> tuple[float, ...]:
    return -lanes * LANE_WIDTH / 2, lanes * LANE_WIDTH / 2


def _dashed(lanes: int) -> tuple[float, ...]:
    return (0.0,) if lanes == 2 else (-LANE_WIDTH / 2, LANE_WIDTH / 2)


def _marks(grey: np.ndarray, camera: np.ndarray, lanes: int, solid: bool = True) -> _Marks:
    """All marks [t, lines * n], or only the dashed ones."""
    lines = (*(_solid(lanes) if solid else ()), *_dashed(lanes))
    found = [_mark(grey, line, camera) for line in lines]
    return _Marks(*(np.concatenate(parts, axis=1) for parts in zip(*found, strict=True)))


def _fit_camera(grey: np.ndarray, lanes: int) -> np.ndarray:
    """The straight path [t] on which the marks stand out most."""
    places = np.arange(-FURTHEST[lanes], FURTHEST[lanes] + 0.05, 0.1)
    first, last = _best_path(grey, lanes, places, places)
    finer = np.arange(-6, 7) / 50
    first, last = _best_path(grey, lanes, first + finer, last + finer)
    return first + (last - first) * np.linspace(0, 1, len(grey))


def _best_path(
    grey: np.ndarray, lanes: int, firsts: np.ndarray, lasts: np.ndarray
) -> tuple[float, float]:
    """The best of the straight paths from one of `firsts` to one of `lasts`."""
    step = firsts[1] - firsts[0]
    low = min(firsts[0], lasts[0])
    places = np.arange(low, max(firsts[-1], lasts[-1]) + 1.5 * step, step)
    clear = np.array([_clearness(grey, lanes, place) for place in places])  # [places, t]
    pairs = np.array([
        (first, last) for first in firsts for last in lasts if abs(last - first) <= FURTHEST_DRIFT
    ])  # fmt: skip
    part = np.linspace(0, 1, len(grey))
    at = (pairs[:, :1] * (1 - part) + pairs[:, 1:] * part - low) / step  # [pairs, t]
    below = np.clip(at.astype(int), 0, len(places) - 2)
    rest, frames = at - below, np.arange(len(grey))
    totals = ((1 - rest) * clear[below, frames] + rest * clear[below + 1, frames]).sum(axis=1)
    first, last = pairs[totals.argmax()]
    return float(first), float(last)


def _clearness(grey: np.ndarray, lanes: int, place: float) -> np.ndarray:
    """Contrast [t] of the marks if the camera is at `place`; dashed ones count half."""
    camera = np.full(len(grey), place)
    lines = {line: 1.0 for line in _solid(lanes)} | {line: 0.5 for line in _dashed(lanes)}
    total = np.zeros(len(grey))
    for line, weight in lines.items():
        inside, outside = (
            np.mean([_across(grey, line + step - camera) for step in steps], axis=0)
            for steps in (WITHIN, AROUND)
        )
        total += weight * np.nansum(inside - outside, axis=1)
    return total


def _fit_dashes(grey: np.ndarray, camera: np.ndarray, lanes: int) -> tuple[float, float]:
    """(speed, start) whose dashes correlate best with the marks between the lanes."""
    shown = _marks(grey, camera, lanes, solid=False).lighter
    shown = np.nan_to_num(shown - np.nanmean(shown))
    speeds = np.linspace(0.8 * SLOWEST, 1.2 * FASTEST, 40)
    starts = np.arange(0, DASH_PERIOD, DASH_PERIOD / 40)
    for _ in range(3):
        scores = np.array([_agreement(shown, grey.shape[1], lanes, v, starts) for v in speeds])
        i, k = np.unravel_index(scores.argmax(), scores.shape)
        speed, start = float(speeds[i]), float(starts[k])
        speeds = speed + np.linspace(-1, 1, 9) * (speeds[1] - speeds[0])
        starts = start + np.linspace(-1, 1, 9) * (starts[1] - starts[0])
    return speed, start % DASH_PERIOD


def _agreement(
    shown: np.ndarray, height: int, lanes: int, speed: float, starts: np.ndarray
) -> np.ndarray:
    """Correlation [starts] of the observed marks [t, lines * n] with dashes of this speed."""
    travelled = starts[:, None] + speed * np.arange(len(shown))  # [starts, t]
    dashes = np.tile(_dashes(height, travelled), (1, 1, len(_dashed(lanes))))
    dashes = dashes - dashes.mean(axis=(1, 2), keepdims=True)
    return (shown * dashes).sum(axis=(1, 2)) / np.sqrt((dashes**2).sum(axis=(1, 2)))


def _dashes(height: int, travelled: np.ndarray) -> np.ndarray:
    """Coverage of each row [... n] by dashes after `travelled` metres [...]."""
    _, scale = _rows(height)
    z = FOCAL * height / scale
    depth = z * z / (FOCAL * CAMERA_HEIGHT * height)
    return pulse((z + travelled[..., None]) / DASH_PERIOD, depth / DASH_PERIOD, DASH_DUTY)
