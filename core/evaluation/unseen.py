"""Prompts and videos that no training of this project has seen.

Training draws scenes from seeds below 2 ** 31, evaluation from there on. Different scenes can share
a caption, so captions of the recipes are skipped, and only captions reserved for evaluation are
used, which the training of the whole family skips.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..families.embedded import worlds
from ..media.reading import read_frames
from ..training.latents import VideoPlan, caption_scenes
from ..training.recipe import RECIPES, load_recipe
from ..training.reserved import reserved
from ..training.videos import HELD_OUT, videos_folder

FIRST_SEED = 2**31
LARGEST_SIDE = 256
SMALLEST_HEIGHT = 144  # real videos are reduced to no less


@cache
def trained_captions() -> frozenset[str]:
    """All captions with motion that the recipes of this project train on."""
    captioned = [plan for plan in _plans("clips") if not plan.labels]
    scenes = [plan.scene(i)[0] for plan in captioned for i in range(plan.count)]
    scenes += [scene for plan in _plans("reading") for scene in caption_scenes(plan)]
    return frozenset(worlds.caption(scene) for scene in scenes)


def _plans(kind: str) -> list[VideoPlan]:
    """The distinct plans in all recipes, for videos ("clips") or for captions alone ("reading")."""
    plans: list[dict[str, Any]] = []
    for path in sorted(RECIPES.glob("*.toml")):
        found = load_recipe(path).data.get(kind, [])
        plans += [found] if isinstance(found, dict) else found
    return list({VideoPlan(**plan): None for plan in plans})


def unseen_scenes(world: str, seed0: int, *, objects: int | None = None) -> Iterator[worlds.Scene]:
    """Scenes from seed0 on with distinct captions that training has not seen.

    objects: only scenes of `shapes` with this many.
    """
    known = set(trained_captions())
    for seed in count(seed0):
        scene = worlds.sample_scene(world, seed)
        text = worlds.caption(scene)
        if objects is not None and len(scene.objects) != objects:
            continue
        if text in known or not reserved(text):
            continue
        known.add(text)
        yield scene


def unseen_shapes(number: int, seed0: int) -> list[worlds.ShapesScene]:
    """Unseen scenes of `shapes`, alternately with one object and with two."""
    kinds = [unseen_scenes("shapes", seed0, objects=objects) for objects in (1, 2)]
    return [next(kinds[k % 2]) for k in range(number)]


def unseen_prompts(world: str, number: int, seed0: int) -> list[str]:
    """Captions of unseen scenes."""
    return [worlds.caption(s) for s in islice(unseen_scenes(world, seed0), number)]


def rendered_videos(
    world: str, number: int, seed0: int, *, frames: int, rate: float = 1.0, size: int = 64
) -> Tensor:
    """Videos [b t 3 size size] of the seeds from seed0 on; rate: base frames per frame."""
    videos = [
        worlds.random_video(world, seed, frames=frames, rate=rate, size=size).frames
        for seed in range(seed0, seed0 + number)
    ]
    return torch.from_numpy(np.stack(videos))


def held_out_videos(frames: int) -> tuple[dict[str, Tensor], list[str]]:
    """The first frames of held-out real videos [1 t 3 h w] by file name, and the missing files.

    Frames at least 288 pixels high are reduced by area averaging, which also hides the dithering of
    GIFs, and cropped as in :func:`middle`.
    """
    paths = [videos_folder() / name for name in HELD_OUT]
    found = {path.name: _real_video(path, frames) for path in paths if path.is_file()}
    return found, [path.name for path in paths if not path.is_file()]


def _real_video(path: Path, frames: int) -> Tensor:
    video = torch.cat(list(read_frames(path, count=frames)))
    factor = max(1, video.shape[-2] // SMALLEST_HEIGHT)
    return middle(F.avg_pool2d(video, factor))[None]


def middle(video: Tensor, largest: int = LARGEST_SIDE) -> Tensor:
    """Centre crop of [... h w] with sides divisible by 16 and at most `largest`."""
    h, w = (min(side, largest) // 16 * 16 for side in video.shape[-2:])
    top, left = (video.shape[-2] - h) // 2, (video.shape[-1] - w) // 2
    return video[..., top : top + h, left : left + w]


def batches(items: Sequence[Any], size: int) -> Iterator[tuple[int, Sequence[Any]]]:
    """(index of the first, items) of each batch of `size` items."""
    for start in range(0, len(items), size):
        yield start, items[start : start + size]
