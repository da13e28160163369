"""Recognise the cars of a video of the world `driving`, their colours and lanes, by rule.

With the road known (`road_rules`), a car can only be in the middle of a lane at some distance. It
is there if the frame looks more like the empty road with a car drawn there than like the empty
road.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..families.embedded.worlds.driving import (
    CAR_COLORS,
    CAR_LENGTH,
    LANE_NAMES,
    DrivingScene,
    lane_centre,
    projected,
)
from ..families.embedded.worlds.driving_figures import draw_car
from ..families.embedded.worlds.raster import paint
from .road_rules import Road, read_road, rendered_road

Car = tuple[str, str]
"""Colour and lane."""

DISTANCES = np.geomspace(5.7, 18.5, 16)
CHANGED, SMALLEST = 0.1, 8 / 64**2
"""Smallest change of a pixel in [0, 1] by a car that counts, and the smallest fraction of the image
that such pixels must cover."""
LASTING = 0.5
"""Share of the frames that must show a car."""


def read_cars(frames: np.ndarray, road: Road | None = None) -> list[Car]:
    """The cars of a video [t 3 h w] in [-1, 1], from the left lane to the right."""
    road = read_road(frames) if road is None else road
    pixels = np.asarray(frames, np.float32) / 2 + 0.5
    empty = rendered_road(road, frames.shape[-2:]) / 2 + 0.5
    found = []
    for lane, name in enumerate(LANE_NAMES[road.lanes]):
        evidence = _evidence(pixels, empty, road, lane_centre(road.lanes, lane))  # [colours, t]
        best = evidence.argmax(axis=0)
        votes = np.bincount(best[evidence.max(axis=0) > 0], minlength=len(CAR_COLORS))
        if votes.sum() > LASTING * len(pixels):
            found.append((list(CAR_COLORS)[int(votes.argmax())], name))
    return found


def cars_of(scene: DrivingScene) -> list[Car]:
    """The cars in the caption of a scene."""
    names = LANE_NAMES[scene.lanes]
    return [(car.color, names[car.lane]) for car in scene.cars]


def agreement(found: Sequence[Car], wanted: Sequence[Car]) -> float:
    """The share of cars as in the prompt; missing and surplus ones count as wrong."""
    total = max(len(found), len(wanted))
    return len(set(found) & set(wanted)) / total if total else 1.0


def _evidence(pixels: np.ndarray, empty: np.ndarray, road: Road, lane: float) -> np.ndarray:
    """Evidence [colours, t] for a car in a lane, at its best distance: the fraction of the
    difference from the empty road [t 3 h w] that drawing the car explains."""
    places = [_explained(pixels, empty, road, lane, distance) for distance in DISTANCES]
    return np.max(places, axis=0)


def _explained(
    pixels: np.ndarray, empty: np.ndarray, road: Road, lane: float, distance: float
) -> np.ndarray:
    """Evidence [colours, t] for a car at one distance; -1 where it would hardly be visible."""
    ends = [
        projected(np.float64(lane), np.full(len(road.camera), z), road.camera, *empty.shape[-2:])
        for z in (distance, distance + CAR_LENGTH)
    ]
    extremes = []
    for level in (0.0, 1.0):
        drawn = empty.copy()
        draw_car(drawn, road.light, *ends, np.full((len(empty), 3), level))
        extremes.append(drawn)
    touched = np.any([drawn != empty for drawn in extremes], axis=(0, 1, 2))  # [h w]
    if not touched.any():
        return np.full((len(CAR_COLORS), len(empty)), -1.0)
    rows, columns = (np.flatnonzero(touched.any(axis=axis)) for axis in (1, 0))
    area = np.s_[..., rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    dark, bright = (drawn[area] for drawn in extremes)
    least = SMALLEST * touched.size
    return np.array([
        # Pixels are linear in the car's colour.
        _share(pixels[area], empty[area], dark + (bright - dark) * paint(rgb), least)
        for rgb in CAR_COLORS.values()
    ])  # fmt: skip


def _share(pixels: np.ndarray, empty: np.ndarray, drawn: np.ndarray, least: float) -> np.ndarray:
    """The fraction [t] of the difference from the empty road that the drawing explains; -1 where it
    changes fewer than `least` pixels."""
    drawn = np.clip(drawn, 0, 1)
    counts = np.abs(drawn - empty).max(axis=1) > CHANGED  # [t h w]
    without, within = (
        (np.abs(pixels - one).mean(axis=1) * counts).sum(axis=(1, 2)) for one in (empty, drawn)
    )
    seen = counts.sum(axis=(1, 2)) >= least
    return np.where(seen, 1 - within / np.maximum(without, 1e-6), -1.0)
