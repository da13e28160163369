"""Measures whether a chunk costs more at the end of a long video than at its start.

    python -m tests.measure_growth [--frames 14400]

Measures each task alone and all in a chain, with mock models that cost nothing, so that only the
tasks and the chunk store count. A video near its end and one at its start alternate, chunk by
chunk, so that other programs affect both alike; the result is the median ratio of processor times.
Chunks are stored in memory (/dev/shm) if possible: of the 2 ms per chunk on a disk, the file system
can take half, and some are slower in folders with thousands of files. `--folder` measures another
place.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import torch
from torch import Tensor
from videoldm.core.diffusion.samplers import sample_euler
from videoldm.core.diffusion.schedules import NoiseSchedule
from videoldm.core.tasks.chunk_store import ChunkStore
from videoldm.core.tasks.decoding import decode
from videoldm.core.tasks.interpolation import Interpolation, interpolate
from videoldm.core.tasks.long_video import Continuation, prediction
from videoldm.core.tasks.segment import Sampling
from videoldm.core.tasks.upsampling import Upsampling, upsample_continued

FRAMES, GROWTH = 14_400, 1.03
CHUNK = 16
PERIOD = 105
"""Chunks after which the windows of all tasks start at the same frame again."""
PAIRS = 50
MEMORY = Path("/dev/shm")
Task = Callable[[Sampling, int], Iterator[Tensor]]


def predicted(sampling: Sampling, frames: int) -> Iterator[Tensor]:
    return prediction(_denoiser_for, (1, 4, 4, 4), sampling, frames, settings=Continuation())


def interpolated(sampling: Sampling, keys: Iterator[Tensor], frames: int) -> Iterator[Tensor]:
    how = Interpolation(total_keys=_keys(frames))
    return interpolate(_denoiser_for, keys, sampling, settings=how)


def decoded(sampling: Sampling, latents: Iterator[Tensor]) -> Iterator[Tensor]:
    return decode(_decoded, latents, chunk=CHUNK, finished=sampling.finished)


def upsampled(sampling: Sampling, pixels: Iterator[Tensor]) -> Iterator[Tensor]:
    schedule = NoiseSchedule(torch.linspace(0.999, 0.01, 1000))
    how = Upsampling(schedule=schedule, chunk=CHUNK, overlap=2)
    return upsample_continued(_denoiser_for, pixels, sampling, how)


def in_a_row(sampling: Sampling, frames: int) -> Iterator[Tensor]:
    keys = predicted(sampling, _keys(frames))
    pixels = decoded(sampling, interpolated(sampling, keys, frames))
    return decoded(sampling, upsampled(sampling, pixels))


def _given(channels: int, length: int = CHUNK) -> Iterator[Tensor]:
    """Endless chunks, no two of which are equal."""
    for k in count():
        yield torch.full((1, length, channels, 4, 4), k / 1000)


def _keys(frames: int) -> int:
    return -(-(frames - 1) // 4) + 1


TASKS = {
    "all tasks in a row": in_a_row,
    "prediction": predicted,
    "interpolation": lambda sampling, frames: interpolated(sampling, _given(4), frames),
    "decoding": lambda sampling, frames: decoded(sampling, _given(4)),
    "upsampling": lambda sampling, frames: upsampled(sampling, _given(3)),
}
"""task(sampling, frames) -> the video, some frames at a time; all of its chunks are stored."""


def video(store: ChunkStore, key: str, frames: int, task: Task = in_a_row) -> Iterator[Tensor]:
    sampling = Sampling(sampler=sample_euler, sigmas=torch.tensor([2.0, 0.0]), seed=7,
                        finished=store.run(key, {}))  # fmt: skip
    return task(sampling, frames)


def _denoiser_for(condition):
    return lambda x, sigma: 0.9 * x


def _decoded(latents: Tensor) -> Tensor:
    return latents[:, :, :3].clamp(-1, 1)


def growth(folder: Path, frames: int, pairs: int = PAIRS, task: Task = in_a_row) -> float:
    """The median ratio of processor times of chunks at the end of a video and at its start."""
    store = ChunkStore(folder, 1e12, warn=print)
    late, early = (video(store, key, frames, task) for key in ("late", "early"))
    skipped = PERIOD * ((frames // CHUNK - pairs) // PERIOD)
    for _ in range(skipped):
        next(late)
    ratios = []
    for k in range(pairs):
        first, second = (late, early) if k % 2 else (early, late)
        spent = {id(one): _spent(one) for one in (first, second)}
        ratios.append(spent[id(late)] / spent[id(early)])
    return statistics.median(ratios)


def _spent(chunks: Iterator[Tensor]) -> float:
    begun = time.process_time()
    next(chunks)
    return time.process_time() - begun


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--folder", type=Path, default=MEMORY if MEMORY.is_dir() else None)
    parser.add_argument("--only", nargs="+", choices=TASKS, default=list(TASKS))
    args = parser.parse_args()
    torch.set_num_threads(1)
    worst = 0.0
    for name in args.only:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            found = growth(Path(folder), args.frames, task=TASKS[name])
        told = "reached" if found <= GROWTH else "MISSED"
        print(f"a chunk at the end of {args.frames} frames / at the start, {name}, and the store: "
              f"{found:.3f}, at most {GROWTH}: {told}")  # fmt: skip
        worst = max(worst, found)
    return int(worst > GROWTH)


if __name__ == "__main__":
    sys.exit(main())
