"""Measures the parallel efficiency of a cluster's workers, with networks that only sleep.

    python -m tests.measure_distributed --workers 8 [--wait 0.2] [--only decoding]

Each evaluation of a network takes `wait` seconds but no processor, so that cores do not matter.
Efficiency is the total time of all evaluations, divided by the number of workers and by the elapsed
time.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from videoldm.core.diffusion.samplers import sample_euler
from videoldm.core.diffusion.sampling_plan import Plan
from videoldm.core.diffusion.schedules import get_sigmas
from videoldm.core.tasks.chunk_store import ChunkStore, Run
from videoldm.core.tasks.decoding import decode
from videoldm.core.tasks.independent_chunks import NoiseStream, independent_chunks
from videoldm.core.tasks.long_video import Continuation, Hierarchy, hierarchical
from videoldm.core.tasks.segment import Sampling, SegmentCondition
from videoldm.core.tasks.upsampling import Upsampling
from videoldm.nodes.host.distributed.cluster import joined
from videoldm.nodes.host.standalone.host import StandaloneHost

sys.path.append(str(Path(__file__).parent))
from model_toys import SCHEDULE, normal  # noqa: E402

STEPS = 5
SIGMAS = get_sigmas("uniform", SCHEDULE, STEPS)


@dataclass(frozen=True)
class Waiting:
    """A network whose evaluation takes `seconds`, or a decoder that takes STEPS times as long."""

    seconds: float

    def __call__(self, condition: SegmentCondition) -> Callable[[Tensor, Tensor], Tensor]:
        return self.denoise

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        time.sleep(self.seconds)
        return 0.5 * x

    def decode(self, latents: Tensor) -> Tensor:
        time.sleep(STEPS * self.seconds)
        return latents[:, :, :3]


def hierarchy(wait: Waiting, finished: Run) -> tuple[int, Iterator[Tensor]]:
    sampling = Sampling(sampler=sample_euler, sigmas=SIGMAS, finished=finished)
    how = Hierarchy(keys=Continuation(window=16, context=1))
    chunks = hierarchical(wait, (1, 4, 2, 2), sampling, 240 * 16 + 1, settings=how)
    return 16 + 60 + 240, chunks


def upsampling(wait: Waiting, finished: Run) -> tuple[int, Iterator[Tensor]]:
    plan = Plan(schedule=SCHEDULE, sampler=sample_euler, sigmas=SIGMAS)
    noise, how = NoiseStream(torch.Generator().manual_seed(0)), Upsampling(schedule=SCHEDULE)
    low = normal(1, 16 * 200, 3, 2, 2)
    return 200, independent_chunks(wait, low, plan, how, noise, finished=finished)


def decoding(wait: Waiting, finished: Run) -> tuple[int, Iterator[Tensor]]:
    return 200, decode(Decoder(wait), normal(1, 16 * 200, 4, 2, 2), finished=finished)


@dataclass(frozen=True)
class Decoder:
    wait: Waiting
    reach: int = 2

    def __call__(self, latents: Tensor) -> Tensor:
        return self.wait.decode(latents)


TASKS = {"hierarchical": hierarchy, "upsampling": upsampling, "decoding": decoding}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--wait", type=float, default=0.2, help="seconds of an evaluation")
    parser.add_argument("--only", nargs="+", default=list(TASKS), choices=list(TASKS))
    args = parser.parse_args()
    host = StandaloneHost()
    host.configure(device="cpu")
    with joined(host, "auto", args.workers) as pool, tempfile.TemporaryDirectory() as folder:
        store = ChunkStore(Path(folder), 1e9, print)
        while len(pool.ready) < args.workers:
            time.sleep(0.1)
        for name in args.only:
            run = store.run(name, {}, workers=pool)
            chunks, made = TASKS[name](Waiting(args.wait), run)
            begun = time.monotonic()
            frames = sum(chunk.shape[1] for chunk in made)
            passed = time.monotonic() - begun
            assert run.made == chunks, (run.made, chunks)
            ideal = chunks * STEPS * args.wait
            print(f"{name:13} {frames} frames, {chunks} chunks in {passed:.1f} s on "
                  f"{args.workers} workers: {100 * ideal / passed / args.workers:.1f} %",
                  flush=True)  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
