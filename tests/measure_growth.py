"""Measures whether a chunk costs more at the end of a long video than at its start.

    python -m tests.measure_growth [--frames 14400]

All five tasks in a row, on made-up models that cost nothing, so that what remains is what the tasks
and the store of finished chunks cost. A video that is near its end and one that begins take turns,
chunk by chunk, so that other programs on the machine disturb both alike: the median of the pairs'
ratios of processor time counts.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
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
"""Chunks of frames after which windows of all tasks begin together again."""
PAIRS = 50


def video(store: ChunkStore, key: str, frames: int) -> Iterator[Tensor]:
    """A video that is predicted, interpolated, decoded, enlarged and decoded again, CHUNK frames of
    it at a time; all of its chunks are kept."""
    run = store.run(key, {})
    sigmas = torch.tensor([2.0, 0.0])
    sampling = Sampling(sampler=sample_euler, sigmas=sigmas, seed=7, finished=run)
    keys = -(-(frames - 1) // 4) + 1
    video = prediction(_denoiser_for, (1, 4, 4, 4), sampling, keys, how=Continuation())
    video = interpolate(_denoiser_for, video, sampling, how=Interpolation(total_keys=keys))
    pixels = decode(_decoded, video, chunk=CHUNK, finished=run)
    schedule = NoiseSchedule(torch.linspace(0.999, 0.01, 1000))
    how = Upsampling(schedule=schedule, chunk=CHUNK, overlap=2)
    large = upsample_continued(_denoiser_for, pixels, sampling, how)
    return decode(_decoded, large, chunk=CHUNK, finished=run)


def _denoiser_for(condition):
    return lambda x, sigma: 0.9 * x


def _decoded(latents: Tensor) -> Tensor:
    return latents[:, :, :3].clamp(-1, 1)


def growth(folder: Path, frames: int, pairs: int = PAIRS) -> float:
    """Processor time of a chunk of the last part of a video over that of one of the first."""
    store = ChunkStore(folder, 1e12, warn=print)
    late, early = (video(store, key, frames) for key in ("late", "early"))
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
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = growth(Path(folder), args.frames)
    told = "reached" if found <= GROWTH else "MISSED"
    print(f"a chunk at the end of {args.frames} frames / at the start, all tasks and the store: "
          f"{found:.3f}, at most {GROWTH}: {told}")  # fmt: skip
    return int(found > GROWTH)


if __name__ == "__main__":
    sys.exit(main())
