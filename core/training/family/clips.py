"""Clips of both worlds with captions and boxes, rendered by worker processes and stored as uint8.

A set's pixels are one file [n, t, 3, h, w], which is memory-mapped on the CPU and copied to a GPU
as a whole.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...families.embedded import worlds
from ..image_model_task import inside
from ..reserved import reserved
from ..videos import load_video, random_crop, training_videos, videos_folder
from .plan import ClipSet

SLOTS = 4
"""Maximum number of boxes per frame."""
CHUNK = 16
"""Clips per unit of work."""


class Annotations(NamedTuple):
    """Annotations of a clip: captions with and without motion, the index of its rate among the
    set's, and the corners [t, SLOTS, 4] and labels of its boxes, "" for an empty slot."""

    captions: tuple[str, str]
    rate: int
    corners: np.ndarray
    labels: list[list[str]]


@dataclass(frozen=True, kw_only=True)
class Clips:
    """A set of clips: pixels uint8 [n, t, 3, h, w], captions with and without motion, indices of
    their rates [n]; corners float16 [n, t, SLOTS, 4] of boxes, zeros if the set has none, and their
    labels [n, t, SLOTS], then empty."""

    pixels: Tensor
    captions: list[tuple[str, str]]
    rates: Tensor
    corners: Tensor
    labels: list[list[list[str]]]

    def __len__(self) -> int:
        return len(self.pixels)


def ready(one: ClipSet, folder: Path) -> bool:
    """Whether a set has been rendered to the folder."""
    return _annotations_path(one, folder).is_file()


def render_clips(one: ClipSet, folder: Path, workers: int, report: Callable[[str], Any]) -> None:
    """Render a set to the folder unless it is there; skip sets of real videos without any."""
    if ready(one, folder) or (one.real and not training_videos(videos_folder())):
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = _pixels_path(one, folder)
    shape = (one.count, one.frames, 3, one.size, one.size)
    np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    starts = range(0, one.count, CHUNK)
    annotations: list[Annotations] = []
    for part in _in_workers(partial(_render_chunk, one, path), starts, workers):
        annotations += part
    _write_annotations(one, folder, annotations)
    report(f"{one.name}: {one.count} clips of {one.frames} frames {one.size}x{one.size}")


def load_clips(one: ClipSet, folder: Path) -> Clips | None:
    """Load a rendered set with memory-mapped pixels; None if it is not there."""
    if not ready(one, folder):
        return None
    annotations = json.loads(_annotations_path(one, folder).read_text())
    with np.load(_boxes_path(one, folder), allow_pickle=False) as boxes:
        rates, corners = boxes["rates"], boxes["corners"]
    # Never written to, but torch warns about read-only memory.
    pixels = np.load(_pixels_path(one, folder), mmap_mode="r+", allow_pickle=False)
    return Clips(
        pixels=torch.from_numpy(pixels),
        captions=[(moving, still) for moving, still in annotations["captions"]],
        rates=torch.from_numpy(rates),
        corners=torch.from_numpy(corners),
        labels=annotations["labels"],
    )


# --------------------------------------------------------------------------------------------------
# In the workers.


def _in_workers(render: Callable[[int], Any], starts: range, workers: int) -> Iterator[Any]:
    if workers < 2:
        yield from map(render, starts)
        return
    # Forking starts at once and is safe: this process has not used a GPU yet.
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    with multiprocessing.get_context(method).Pool(workers, initializer=_plain_signals) as pool:
        yield from pool.imap(render, starts)
        pool.close()
        pool.join()


def _plain_signals() -> None:
    """Let workers be terminated, and leave Ctrl+C to the parent process."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _render_chunk(one: ClipSet, path: Path, start: int) -> list[Annotations]:
    """Render CHUNK clips from index `start` into the file of pixels."""
    pixels = np.load(path, mmap_mode="r+", allow_pickle=False)
    annotations = []
    for index in range(start, min(start + CHUNK, one.count)):
        frames, words = _real(one, index) if one.real else _rendered(one, index)
        pixels[index] = np.rint((frames + 1) * 127.5).clip(0, 255).astype(np.uint8)
        annotations.append(words)
    pixels.flush()
    return annotations


def _rendered(one: ClipSet, index: int) -> tuple[np.ndarray, Annotations]:
    random = np.random.default_rng((one.seed, index))
    world = "shapes" if random.random() < one.shapes_share else "driving"
    rate = index % len(one.rates)
    start = random.uniform(0, one.latest_start) if random.random() < 0.5 else 0.0
    scene = worlds.sample_scene(world, int(random.integers(2**31)))
    while reserved(worlds.caption(scene)):
        scene = worlds.sample_scene(world, int(random.integers(2**31)))
    times = start + one.rates[rate] * np.arange(one.frames)
    captions = worlds.caption(scene), worlds.caption(scene, motion=False)
    corners, labels = _boxes(scene, times, one) if one.boxes else _no_boxes(one)
    annotations = Annotations(captions, rate, corners, labels)
    return worlds.render(scene, times=times, size=one.size), annotations


def _boxes(
    scene: worlds.Scene, times: np.ndarray, one: ClipSet
) -> tuple[np.ndarray, list[list[str]]]:
    """The boxes of every frame, clipped to the image."""
    corners, labels = _no_boxes(one)
    for t, time in enumerate(times):
        cut = [inside(box) for box in worlds.boxes(scene, float(time), size=one.size)]
        for slot, box in enumerate([box for box in cut if box is not None][:SLOTS]):
            corners[t, slot] = box.x0, box.y0, box.x1, box.y1
            labels[t][slot] = box.label
    return corners, labels


def _no_boxes(one: ClipSet) -> tuple[np.ndarray, list[list[str]]]:
    corners = np.zeros((one.frames, SLOTS, 4), np.float16)
    return corners, [[""] * SLOTS for _ in range(one.frames)] if one.boxes else []


def _real(one: ClipSet, index: int) -> tuple[np.ndarray, Annotations]:
    """A random crop of the real video `index`, modulo their number, or of the next one that is
    large enough."""
    random = np.random.default_rng((one.seed, index))
    paths = training_videos(videos_folder())
    for path in (paths[(index + k) % len(paths)] for k in range(len(paths))):
        try:
            frames = random_crop(load_video(path), random, frames=one.frames, size=one.size)
        except ValueError:  # too small or too short
            continue
        return frames, Annotations(("", ""), 0, *_no_boxes(one))
    raise ValueError(f"no real video is large enough for crops of {one.size}x{one.size}")


# --------------------------------------------------------------------------------------------------
# Files. A set is complete once its annotations are there, which are written last.


def _pixels_path(one: ClipSet, folder: Path) -> Path:
    return folder / f"{one.key}.npy"


def _boxes_path(one: ClipSet, folder: Path) -> Path:
    return folder / f"{one.key}-boxes.npz"


def _annotations_path(one: ClipSet, folder: Path) -> Path:
    return folder / f"{one.key}.json"


def _write_annotations(one: ClipSet, folder: Path, annotations: list[Annotations]) -> None:
    np.savez(
        _boxes_path(one, folder),
        rates=np.array([clip.rate for clip in annotations]),
        corners=np.stack([clip.corners for clip in annotations]),
    )
    path = _annotations_path(one, folder)
    text = {
        "set": asdict(one),
        "captions": [clip.captions for clip in annotations],
        "labels": [clip.labels for clip in annotations],
    }
    path.with_suffix(".tmp").write_text(json.dumps(text))
    os.replace(path.with_suffix(".tmp"), path)
