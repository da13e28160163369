"""A worker: a process with its own device that makes chunks and writes them to the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn

from ....core.tasks.chunk_store import Place
from ....core.tasks.finished import ChunkResult
from ....core.tasks.segment import Progress
from .packing import unpack
from .weights import unpack_module

ProgressReports = list[tuple[int, int, Progress]]
"""(number of the chunk, number of the callback, progress) of each report."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What workers must share with the driver: equal results need equal versions and, on a CPU, the
    same number of threads."""

    version: str
    torch: str
    threads: int


class Job(NamedTuple):
    """A chunk to be made. data: the packed function. modules: names of those that it uses; alive:
    names of all that any chunk may still use."""

    number: int
    data: bytes
    modules: Sequence[str]
    alive: Sequence[str]


class Worker:
    """Runs as a Ray actor. fetch(reference) -> the packed module that `Weights` shares."""

    def __init__(self, setup: Setup, fetch: Callable[[Any], Any]):
        self.setup, self.fetch = setup, fetch
        self.modules: dict[str, nn.Module] = {}
        self.reports: ProgressReports = []

    def ready(self) -> None:
        """Return when the worker can begin; ValueError if its versions differ."""
        from .... import __version__

        own = replace(self.setup, version=__version__, torch=torch.__version__)
        if own != self.setup:
            raise ValueError(
                f"a worker has videoldm {own.version} with torch {own.torch}, but the command "
                f"{self.setup.version} with {self.setup.torch}: install the same on all machines"
            )

    def make(
        self, job: Job, place: bytes | None, shared: Mapping[str, Any]
    ) -> tuple[ChunkResult, ProgressReports]:
        """Make a chunk unless it is in the store; also return the progress not polled yet.

        shared: references to this chunk's modules.
        """
        torch.set_num_threads(self.setup.threads)
        self._load_modules(job, shared)
        callback = partial(self._callback, job.number)
        where = self.place(place)
        if where is not None and where.read() is not None:
            return ChunkResult(None, was_cached=True), self.poll()
        made = unpack(job.data, self.modules, callback)()
        reason = "" if where is None else where.write(made)
        kept = where is not None and not reason
        return ChunkResult(None if kept else on_cpu(made), reason=reason), self.poll()

    def place(self, packed: bytes | None) -> Place | None:
        """The place of a chunk in the store, None for one that is not kept."""
        return None if packed is None else unpack(packed, {}, lambda number: None)

    def poll(self) -> ProgressReports:
        """The progress reported since the last call."""
        reports, self.reports = self.reports, []
        return reports

    def _load_modules(self, job: Job, shared: Mapping[str, Any]) -> None:
        self.modules = {name: one for name, one in self.modules.items() if name in job.alive}
        for name in job.modules:
            if name not in self.modules:
                self.modules[name] = unpack_module(self.fetch(shared[name]))

    def _callback(self, chunk: int, number: int) -> Callable[[Progress], None]:
        def report(progress: Progress) -> None:
            # Without its tensors, which nobody reads.
            step = progress.step._replace(x=None, denoised=None)
            self.reports.append((chunk, number, progress._replace(step=step)))

        return report


def on_cpu(made: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: one.detach().to("cpu") for name, one in made.items()}
