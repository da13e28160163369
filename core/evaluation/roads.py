"""Figures of the embedded models on the world `driving`: cars, lanes, and flicker of lane marks."""

from __future__ import annotations

from itertools import islice
from math import isfinite

import numpy as np
import torch

from ..families.embedded import worlds
from ..families.embedded.worlds.driving import EGO_MOTIONS
from .car_rules import agreement, cars_of, read_cars
from .figures import Figure, at_least, at_most
from .road_rules import Road, fitted_roads, mark_flicker, most_alike
from .run import BATCH, FRAMES, SIDE, TEXT_TO_VIDEO, Run, clips, mean
from .unseen import batches, unseen_scenes

GROUP = "driving"
LEAST_DRIFT = 0.65
"""Metres over a video: half of the smallest drift of the world's camera."""
Measured = dict[str, list[float]]
"""Values by measure, one per video."""


def driving(run: Run) -> list[Figure]:
    """Cars and lanes as prompted, for unseen prompts, and flicker of the lane marks.

    The flicker of generated videos is relative to that of rendered ones, encoded and decoded.
    """
    scenes = list(islice(unseen_scenes("driving", run.seed), run.counts.prompts))
    found: dict[str, Measured] = {"made": {}, "encoded": {}, "rendered": {}}
    for start, part in batches(scenes, BATCH):
        prompts = [worlds.caption(scene) for scene in part]
        latents = clips(run, run.models.text_to_video, prompts, start, TEXT_TO_VIDEO)
        rendered = np.stack([
            worlds.render(scene, times=np.arange(FRAMES), size=SIDE) for scene in part
        ])  # fmt: skip
        coded = run.models.decoded(run.models.encoded(torch.from_numpy(rendered))).numpy()
        made = run.models.decoded(latents).numpy()
        for name, videos in (("made", made), ("encoded", coded), ("rendered", rendered)):
            for video, scene in zip(videos, part, strict=True):
                _measure(video, scene, found[name])
    return [_cars(found), _marks(found)]


def _measure(video: np.ndarray, scene: worlds.DrivingScene, found: Measured) -> None:
    roads = fitted_roads(video)
    road = next(one for one in roads if one.lanes == scene.lanes)
    right = {
        "cars": agreement(read_cars(video, road), cars_of(scene)),
        "lanes": float(most_alike(video, roads).lanes == scene.lanes),
        "light": float(road.light == scene.light),
        "camera": float(_drift(road) == EGO_MOTIONS[scene.ego]),
        "flicker": mark_flicker(video, road),
    }
    for name, value in right.items():
        found.setdefault(name, []).append(value)


def _drift(road: Road) -> float:
    """Drift of the camera: -1 to the left, 0 none, 1 to the right."""
    moved = float(road.camera[-1] - road.camera[0])
    return float(np.sign(moved)) if abs(moved) > LEAST_DRIFT else 0.0


def _cars(found: dict[str, Measured]) -> Figure:
    made = found["made"]
    detail = {
        "prompts": len(made["cars"]),
        "light": 100 * mean(made["light"]),
        "number of lanes": 100 * mean(made["lanes"]),
        "camera": 100 * mean(made["camera"]),
        "encoded videos": 100 * mean(found["encoded"]["cars"]),
        "rendered videos": 100 * mean(found["rendered"]["cars"]),
    }
    value, name = 100 * mean(made["cars"]), "driving: cars and their lanes as prompted"
    return at_least(GROUP, name, value, 95, "%", detail)


def _marks(found: dict[str, Measured]) -> Figure:
    detail = {name: mean(filter(isfinite, one["flicker"])) for name, one in found.items()}
    name = "driving: flicker of lane marks / of true clips encoded"
    return at_most(GROUP, name, detail["made"] / detail["encoded"], 1.5, "", detail)
