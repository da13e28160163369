"""Two procedurally rendered worlds with exact captions: `shapes` and `driving`.

A scene is a frozen dataclass of continuous parameters; it can be rendered at any size and any
times. Times are in base frames: a base video is `arange(16)`, an interpolated one `arange(61) / 4`.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from . import driving, shapes
from .driving import DrivingScene
from .raster import Box, Video
from .shapes import ShapesScene, shapes_scene

if TYPE_CHECKING:
    from torch import Tensor

Scene = ShapesScene | DrivingScene
WORLDS: dict[str, ModuleType] = {"shapes": shapes, "driving": driving}

__all__ = [
    "WORLDS",
    "Box",
    "Video",
    "DrivingScene",
    "Scene",
    "ShapesScene",
    "boxes",
    "caption",
    "flow",
    "labels",
    "random_video",
    "render",
    "rendered",
    "sample_scene",
    "shapes_scene",
    "words",
]


def sample_scene(world: str, seed: int) -> Scene:
    """Sample the scene of `seed`, the same on every machine."""
    if world not in WORLDS:
        raise ValueError(f"unknown world {world!r}, expected one of {', '.join(WORLDS)}")
    return WORLDS[world].sample(seed)


def render(scene: Scene, *, times: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """Render float32 `[t, 3, h, w]` in [-1, 1]; `size` is one number or (height, width)."""
    return _world(scene).render(scene, times=times, size=size)


def caption(scene: Scene, *, motion: bool = True) -> str:
    """The caption of a scene; without `motion`, only what a single frame shows."""
    return _world(scene).caption(scene, motion=motion)


def labels(scene: Scene) -> str:
    """The class labels of a scene; ValueError for a world without classes."""
    if not isinstance(scene, DrivingScene):
        raise ValueError("only scenes of the world driving have labels")
    return driving.labels(scene)


def words() -> frozenset[str]:
    """Every word of the captions of both worlds."""
    return frozenset(word for world in WORLDS.values() for word in world.words())


def boxes(scene: Scene, time: float = 0.0, *, size: int | tuple[int, int] = 64) -> tuple[Box, ...]:
    """Bounding boxes of the objects at `time`; only the aspect ratio of `size` matters."""
    return _world(scene).boxes(scene, time, size=size)


def flow(
    scene: Scene, *, time: float, next_time: float, size: int | tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """The optical flow from `time` to `next_time`.

    Returns displacements `[2, h, w]` (dx, dy in pixels) and a validity mask `[h, w]` (0 or 1), both
    float32: sampling the frame of `next_time` with them gives the frame of `time` where valid.
    """
    return _world(scene).flow(scene, time=time, next_time=next_time, size=size)


def random_video(
    world: str,
    seed: int,
    *,
    frames: int = 16,
    size: int | tuple[int, int] = 64,
    rate: float = 1.0,
    start: float = 0.0,
) -> Video:
    """Render the scene of `seed` with its caption; `rate` is in base frames per frame."""
    if frames < 1:
        raise ValueError(f"a video needs at least 1 frame, not {frames}")
    scene = sample_scene(world, seed)
    times = start + rate * np.arange(frames)
    return Video(
        frames=render(scene, times=times, size=size),
        caption=caption(scene),
        boxes=boxes(scene, start, size=size),
    )


def rendered(world: str, *, seed: int, frames: int, size: int) -> Tensor:
    """Frames [t 3 size size] in [-1, 1] of the scene of `seed`, four per base frame."""
    import torch

    video = random_video(world, seed, frames=frames, size=size, rate=0.25)
    return torch.from_numpy(np.ascontiguousarray(video.frames))


def _world(scene: Scene) -> ModuleType:
    return shapes if isinstance(scene, ShapesScene) else driving
