"""Clips with captions for training layers over published image models: cut from video files, or
rendered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..families.embedded import worlds
from ..media.info import VideoInfo
from ..media.reading import open_video, read_selected
from ..media.selection import Selection, select_frames
from .videos import SUFFIXES

LATEST_START = 60.0  # latest first frame of a rendered clip, in base frames


class Clip(NamedTuple):
    """Frames [t 3 h w] in [-1, 1] and their caption."""

    frames: Tensor
    caption: str


@dataclass(frozen=True, kw_only=True)
class Clips:
    """A source of clips, and how they are cut.

    size: (height, width) that frames are resized to cover, then centre-cropped to. patch: (height,
    width) of a random crop, for networks that are trained on patches of large frames; None = whole
    frames. videos: a folder of video files, each with an optional caption in a text file of the
    same name; "" = rendered videos of `world`, whose captions are with `labels` the scenes' labels.
    """

    frames: int
    size: tuple[int, int]
    patch: tuple[int, int] | None = None
    videos: str = ""
    world: str = "driving"
    labels: bool = False

    def draw(self, random: np.random.Generator, stride: int = 1) -> Clip:
        """A random clip of every `stride`-th frame: of a file at its own frame rate, of a rendered
        video at 4 frames to a base frame."""
        clip = self._from_file(random, stride) if self.videos else self._rendered(random, stride)
        if self.patch is None:
            return clip
        (h, w), (height, width) = self.patch, clip.frames.shape[-2:]
        y, x = int(random.integers(height - h + 1)), int(random.integers(width - w + 1))
        return clip._replace(frames=clip.frames[..., y : y + h, x : x + w].contiguous())

    def __post_init__(self) -> None:
        for name, value in (("size", self.size), ("patch", self.patch or self.size)):
            if len(value) != 2 or min(value) < 1:
                raise ValueError(f"{name} must be a height and a width, not {value}")
        if self.patch is not None and any(
            p > s for p, s in zip(self.patch, self.size, strict=True)
        ):
            raise ValueError(f"a patch of {self.patch} does not fit into frames of {self.size}")

    def _rendered(self, random: np.random.Generator, stride: int) -> Clip:
        scene = worlds.sample_scene(self.world, int(random.integers(2**31)))
        times = random.uniform(0, LATEST_START) + stride / 4 * np.arange(self.frames)
        frames = worlds.render(scene, times=times, size=self.size)
        words = worlds.labels(scene) if self.labels else worlds.caption(scene)
        return Clip(torch.from_numpy(frames), words)

    def _from_file(self, random: np.random.Generator, stride: int) -> Clip:
        info = self._long_enough(random, stride)
        span = (self.frames - 1) * stride + 1
        start = int(random.integers(info.frames - span + 1))
        selection = Selection(start=start, count=self.frames, stride=stride)
        inner = covering((info.height, info.width), self.size)
        chunks = read_selected(info, select_frames(info, selection), chunk=self.frames, size=inner)
        frames = torch.cat(list(chunks))
        y, x = ((a - b) // 2 for a, b in zip(inner, self.size, strict=True))
        frames = frames[..., y : y + self.size[0], x : x + self.size[1]]
        return Clip(frames.contiguous(), caption_of(info.path))

    def _long_enough(self, random: np.random.Generator, stride: int) -> VideoInfo:
        """A random video that is long enough for a clip."""
        span = (self.frames - 1) * stride + 1
        files = video_files(self.videos)
        for k in random.permutation(len(files)):
            info = _opened(files[k])
            if info.frames >= span:
                return info
        raise ValueError(f"no video in {self.videos} has the {span} frames of a clip")


def covering(have: Sequence[int], wanted: Sequence[int]) -> tuple[int, int]:
    """The smallest (height, width) with the aspect ratio of `have` that covers `wanted`."""
    scale = max(w / h for h, w in zip(have, wanted, strict=True))
    height, width = (max(w, round(h * scale)) for h, w in zip(have, wanted, strict=True))
    return height, width


@lru_cache(maxsize=8)
def video_files(folder: str) -> tuple[Path, ...]:
    """The video files in a folder, recursively; ValueError if there are none."""
    found = sorted(p for p in Path(folder).expanduser().rglob("*") if p.suffix.lower() in SUFFIXES)
    if not found:
        raise ValueError(f"there are no videos in {folder}")
    return tuple(found)


@lru_cache(maxsize=4096)
def _opened(path: Path) -> VideoInfo:
    return open_video(path)


def caption_of(path: Path) -> str:
    """The caption in the text file beside a video, "" if there is none."""
    text = path.with_suffix(".txt")
    return text.read_text(encoding="utf-8").strip() if text.is_file() else ""
