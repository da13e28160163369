"""Clips from files and into files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ...core.video_files import (
    UNDER_WAY,
    VideoStream,
    exact_frame_rate,
    open_video,
    read_frames,
)
from ..checks import clip_faults, loading_faults, require
from ..choices import FITS, RENDERED, RENDERED_FRAMES
from ..host.saving import save_stream

if TYPE_CHECKING:
    from ..host.interface import Host, Wire

CHUNK = 16  # frames that are converted at a time
RENDERED_SIZE, RENDERED_RATE, RENDERED_SEED = 64, 15.0, 20_000


def load_clip(
    host: Host, file: str, *, start: int, count: int, stride: int, width: int, height: int,
    fit: str, multiple_of: int,
) -> tuple[Tensor, float, int]:  # fmt: skip
    """(IMAGE, frames per second, frame count) of a file, or of a clip rendered on the spot.

    `count` 0 takes all frames, `width` or `height` 0 keeps that side; sides then shrink to a
    multiple of `multiple_of` by cropping.
    """
    if fit not in FITS:
        raise ValueError(f"fit {fit!r} must be one of {', '.join(FITS)}")
    chunks, size, rate = (_rendered if file in RENDERED else _from_file)(
        host, file, start, count, stride
    )
    target = _target_size(size, (height, width), multiple_of)
    parts = (_fitted(chunk, target, fit) for chunk in _interruptible(host, chunks))
    images = torch.cat([host.images(part[None]) for part in parts])
    return images, float(rate / stride), len(images)


def _interruptible(host: Host, chunks: Iterator[Tensor]) -> Iterator[Tensor]:
    for chunk in chunks:
        host.check_interrupted()
        yield chunk


def _from_file(host: Host, file: str, start: int, count: int, stride: int):
    path = host.folders.input_path(file)
    info = open_video(path)
    chunks = read_frames(path, start=start, count=count or None, stride=stride)
    return chunks, (info.height, info.width), info.frame_rate


def _rendered(host: Host, file: str, start: int, count: int, stride: int):
    """A clip of one of the procedurally rendered worlds, always the same one."""
    from ...core.worlds import random_clip

    wanted = {"file": file, "start": start, "count": count, "stride": stride}
    require(loading_faults, wanted)
    world = file.partition(": ")[2]
    clip = random_clip(world, RENDERED_SEED, frames=RENDERED_FRAMES, size=RENDERED_SIZE, rate=0.25)
    pixels = torch.from_numpy(np.ascontiguousarray(clip.frames))
    chosen = pixels[start::stride][: count or None]
    return iter([chosen]), (RENDERED_SIZE, RENDERED_SIZE), RENDERED_RATE


def _target_size(
    size: tuple[int, int], wanted: tuple[int, int], multiple_of: int
) -> tuple[int, int]:
    """(height, width): what was asked for, or the clip's own, cut to a multiple."""
    height, width = (want or have for want, have in zip(wanted, size, strict=True))
    target = height - height % multiple_of, width - width % multiple_of
    if min(target) < multiple_of:
        raise ValueError(
            f"a clip of {width}x{height} is smaller than one multiple of {multiple_of}"
        )
    return target


def _fitted(frames: Tensor, target: tuple[int, int], fit: str) -> Tensor:
    """Frames [t, 3, h, w] at the target size: scaled to cover it and cut, or stretched."""
    height, width = target
    h, w = frames.shape[-2:]
    if fit == "crop" and height <= h and width <= w and max(h - height, w - width) < 64:
        scaled = (h, w)  # A few rows off are better cut than resampled.
    elif fit == "crop":
        factor = max(height / h, width / w)
        scaled = max(round(h * factor), height), max(round(w * factor), width)
    else:
        scaled = target
    if scaled != (h, w):
        frames = interpolate(frames, scaled, mode="bicubic", antialias=True).clamp(-1, 1)
    top, left = (scaled[0] - height) // 2, (scaled[1] - width) // 2
    return frames[..., top : top + height, left : left + width]


# --------------------------------------------------------------------------------------------------
# Saving.


def stream_of(
    host: Host, video: Wire | None, images: Tensor | None, frame_rate: float
) -> VideoStream:
    """The one clip that a saving node was given."""
    given = {"video": video, "images": images}
    require(clip_faults, {}, [name for name, value in given.items() if value is not None])
    if video is not None:
        return host.stream(video)
    return images_stream(host, images, frame_rate)


def images_stream(host: Host, images: Tensor, frame_rate: float) -> VideoStream:
    """A clip of an IMAGE, converted chunk by chunk: only the IMAGE itself is in memory."""
    if images.ndim != 4 or not len(images):
        raise ValueError(f"an IMAGE must be [frames, height, width, 3], got {list(images.shape)}")
    frames, height, width = images.shape[:3]
    return VideoStream(
        lambda: (host.pixels(part)[0] for part in images.split(CHUNK)),
        exact_frame_rate(frame_rate),
        frames,
        width,
        height,
    )


def save_clip(
    host: Host, stream: VideoStream, prefix: str, format: str, quality: int,
    metadata: dict[str, str], *, temp: bool = False,
) -> Path:  # fmt: skip
    """Stream a clip into the next free file and return it; a folder of images for "png"."""
    suffix = "" if format == "png" else f".{format}"
    size = (stream.width, stream.height)
    file = host.folders.new_file(
        prefix, suffix, temp=temp, size=size, under_way=UNDER_WAY.get(format)
    )
    return save_stream(host, stream, file, format=format, quality=quality, metadata=metadata)


def shown_files(host: Host, path: Path) -> list[tuple[str, str]]:
    """(name, folder) of a saved file, or of each image of a saved folder."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [host.folders.relative(file) for file in files]
