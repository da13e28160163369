"""Training frames from real video files: decoded once, then cropped at random."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

import av
import numpy as np

HELD_OUT = (
    "carphone_pristine.mp4",
    "lavie_panda.gif",
    "animatediff_xl_01.gif",
)  # for evaluation only
SUFFIXES = (".mp4", ".webm", ".mov", ".mkv", ".gif")


def videos_folder() -> Path:
    """The folder of real videos: ``VIDEOLDM_CLIPS``, or ``shared/clips`` beside the repository."""
    default = Path(__file__).resolve().parents[3] / "shared" / "clips"
    return Path(os.environ.get("VIDEOLDM_CLIPS", default))


def training_videos(folder: Path) -> list[Path]:
    """The videos in ``folder`` that are not held out, sorted by name."""
    return sorted(p for p in folder.glob("*") if p.suffix in SUFFIXES and p.name not in HELD_OUT)


@lru_cache(maxsize=64)
def load_video(path: Path, max_height: int = 320) -> np.ndarray:
    """Read a video as uint8 [t, h, w, 3], reduced by a whole factor (area averaging) to at most
    ``max_height``."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        factor = max(1, -(-stream.height // max_height))
        size = dict(width=stream.width // factor, height=stream.height // factor)
        return np.stack(
            [
                frame.reformat(**size, format="rgb24", interpolation="AREA").to_ndarray()
                for frame in container.decode(stream)
            ]
        )


def random_crop(
    video: np.ndarray, random: np.random.Generator, *, frames: int, size: int, max_shrink: int = 2
) -> np.ndarray:
    """A crop of ``frames`` consecutive frames, float32 [t, 3, size, size] in [-1, 1].

    It is reduced by a random factor 1 .. ``max_shrink`` (area averaging, which also hides palette
    dithering) and mirrored half of the time. Raises ValueError for a video that is too small.
    """
    largest = min(video.shape[1], video.shape[2]) // size
    if largest < 1 or len(video) < frames:
        raise ValueError(
            f"a video of {video.shape[0]} frames {video.shape[2]}x{video.shape[1]} is too "
            f"small for {frames} frames {size}x{size}"
        )
    factor = int(random.integers(1, min(largest, max_shrink) + 1))
    side = size * factor
    t = random.integers(len(video) - frames + 1)
    y, x = (random.integers(n - side + 1) for n in video.shape[1:3])
    cut = video[t : t + frames, y : y + side, x : x + side].astype(np.float32)
    cut = cut.reshape(frames, size, factor, size, factor, 3).mean(axis=(2, 4))
    if random.random() < 0.5:
        cut = cut[:, :, ::-1]
    return np.ascontiguousarray((cut / 127.5 - 1).transpose(0, 3, 1, 2))
