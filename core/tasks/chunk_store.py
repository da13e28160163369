"""A store of finished chunks on disk, from which an interrupted run resumes.

A task requests each chunk with

    finished(make, condition=..., sigmas=..., noise=...)

which reads it if it was made before from the same inputs, and otherwise makes and stores it. The
key of a chunk is a digest of everything that `make` depends on: frame numbers, context and
concatenated frames by value, noise levels, seeds, and the prompt of these frames. The key of the
run covers what all of its chunks have in common: models, files, device, version. Tasks contain no
code for resuming: they start over, and the store returns the chunks that exist. A change is thus
recomputed chunk by chunk: a segment with another prompt, and the segments that continue from its
frames, but none whose inputs are the same as before.

    runs/<key of the run>/run.json              what made the chunks, for people
    runs/<key of the run>/<key>.safetensors     a chunk, with the digest of its values
    runs/<key of the run>/<key>.3.safetensors   a step of an unfinished chunk

What is finished only as a whole, such as a video whose windows are averaged at every step, is made
`in_steps`: the network's answers are stored one by one, and removed once the chunk is stored.

Files are written under a temporary name, synced and renamed, so that a file with its final name is
complete whenever a run ends and however many processes share the folder. One with a wrong digest is
made again. If nothing can be written, the run continues and warns once. At the limit, the least
recently used chunks are removed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from math import inf
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from safetensors import SafetensorError
from torch import Tensor

from .chunk_files import read_chunk, replaced, write_chunk
from .content import NoDigest, digest
from .finished import ChunkResult, Finished, Tensors, Workers, always_made
from .kept_runs import ABOUT, SUFFIX, KeptRuns

T = TypeVar("T")
FULL, ROOM = 0.95, 0.9
"""Shares of the limit: above FULL, chunks are removed until ROOM is left in use."""
COUNTED = 0.01
"""Share of the limit that this process writes before it measures the folder again, since others may
write to it as well. Five processes together thus stay below the limit."""


@dataclass
class ChunkStore(KeptRuns):
    """The folder of all runs. limit: bytes that chunks may take. warn: called with one sentence
    about what could not be written."""

    limit: float
    warn: Callable[[str], None]
    taken: float = 0.0  # bytes in use
    uncounted: float = inf  # bytes written since they were counted

    def run(
        self, key: str, about: Mapping[str, Any], prompt_of: PromptOf | None = None,
        workers: Workers | None = None, whole: str | None = None,
    ) -> Run:  # fmt: skip
        """The chunks of one run. about: JSON values for people who look at the list of runs.
        prompt_of, workers, whole: see `Run`."""
        return Run(self, key, about, prompt_of, workers, whole)

    def write(self, path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        """Write a chunk. If that raises OSError or SafetensorError, no file is left behind."""
        size = sum(one.nbytes for one in tensors.values())
        if size > ROOM * self.limit:  # Making room would remove all others.
            sizes = f"{size / 1e9:.2g} GB is too large for the limit of {self.limit / 1e9:.2g} GB"
            raise OSError(f"one of {sizes}")
        self._make_room(size)
        try:
            self._write(path, tensors, about)
        except (OSError, SafetensorError):
            if path.parent.is_dir():
                raise
            self._write(path, tensors, about)  # Another process removed the folder.

    def _write(self, path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            replaced(path.parent / ABOUT, lambda at: at.write_text(json.dumps(about, indent=1)))
        write_chunk(path, tensors)

    def _make_room(self, size: int) -> None:
        self.uncounted += size
        self.taken += size
        if self.uncounted > COUNTED * self.limit:
            self.taken, self.uncounted = size + self.size(), size
        if self.taken > FULL * self.limit:
            self.taken = size + self.shrink(max(0.0, ROOM * self.limit - size))

    def forget(self, pattern: Path) -> None:
        """Remove the chunks whose names match the last part of a path."""
        for path in pattern.parent.glob(pattern.name):
            with suppress(OSError):
                size = path.stat().st_size
                path.unlink()
                self.taken -= size


class ChunkRequest(NamedTuple):
    """A chunk that a task requested: its absolute frame numbers, the task's name for it, and
    whether the store had it."""

    frames: Sequence[int]
    level: str
    was_cached: bool


PromptOf = Callable[[Any], str]
"""prompt_of(frames) -> the digest of the prompts of these absolute frames."""


@dataclass(frozen=True)
class Place:
    """Where a chunk is stored."""

    store: ChunkStore
    path: Path
    about: Mapping[str, Any]

    def step(self, number: int | str) -> Place:
        """Where a step of the chunk is stored until the chunk is finished."""
        name = f"{self.path.name.removesuffix(SUFFIX)}.{number}{SUFFIX}"
        return replace(self, path=self.path.with_name(name))

    def read(self) -> Tensors | None:
        """The chunk; None if it is missing or damaged."""
        return read_chunk(self.path)

    def write(self, made: Tensors) -> str:
        """Write the chunk; returns why it could not be written, "" if it could."""
        try:
            self.store.write(self.path, made, self.about)
        except (OSError, SafetensorError) as error:
            return _reason(error)
        return ""


@dataclass
class Steps(Finished):
    """The steps of one chunk. run: counts them; None where a worker makes the chunk."""

    place: Place
    run: Run | None
    count: int = 0

    def __call__(self, make: Callable[[], Tensor], /, **parts: Any) -> Tensor:
        place = self.place.step(self.count)
        self.count += 1
        return self._kept(lambda: {"chunk": make()}, place)["chunk"]

    def _kept(self, make: Callable[[], Tensors], place: Place) -> Tensors:
        if self.run is not None:
            return self.run.step(make, place)
        found = place.read()
        if found is None:
            found = make()
            place.write(found)
        return found


@dataclass
class Run(Finished):
    """The finished chunks of one run; see `Finished`.

    prompt_of: what else chunks with `frames` depend on. workers: make the missing chunks, None =
    this process does. whole: the content key of everything that the run as a whole depends on,
    computed when it was opened; None if there is none. made, reused: chunks that were made and that
    were read since then. requests: those with frames, in order. paths: files of all chunks, in
    order; None for those not stored.
    """

    store: ChunkStore
    key: str
    about: Mapping[str, Any]
    prompt_of: PromptOf | None = None
    workers: Workers | None = None
    whole: str | None = None
    made: int = 0
    reused: int = 0
    requests: list[ChunkRequest] = field(default_factory=list)
    paths: list[Path | None] = field(default_factory=list)
    is_silent: bool = field(default=False, repr=False)

    def __call__(self, make: Callable[[], Tensor], /, **parts: Any) -> Tensor:
        return self.begin(make, **parts)()

    def begin(self, make: Callable[[], Tensor], /, **parts: Any) -> Callable[[], Tensor]:
        pending = self.begin_tensors(lambda: {"chunk": make()}, **parts)
        return lambda: pending()["chunk"]

    def begin_tensors(
        self, make: Callable[[], Tensors], /, **parts: Any
    ) -> Callable[[], Tensors]:  # fmt: skip
        """Like `begin`, for several tensors that are made together."""
        place = self._place(parts)
        self.paths.append(None if place is None else place.path)
        return partial(self._noted, self._pending(make, place), parts)

    def _pending(self, make: Callable[[], Tensors], place: Place | None) -> Callable[[], Tensors]:
        if self.workers is None:
            return partial(self._made_here, make, place)
        if place is not None and place.path.exists():
            return partial(self._read_or_made, make, place)
        return partial(self._made_elsewhere, self.workers.begin(make, place), place)

    def _noted(self, get: Callable[[], Tensors], parts: Mapping[str, Any]) -> Tensors:
        made, reused = self.made, self.reused
        found = get()
        if "frames" in parts:
            was_cached = self.made == made and self.reused > reused
            self.requests.append(ChunkRequest(parts["frames"], parts.get("level", ""), was_cached))
        return found

    def ahead(self, pending: Iterator[T]) -> Iterator[T]:
        return pending if self.workers is None else self.workers.ahead(pending)

    def in_steps(self, make: Callable[[Finished], Tensor], /, **parts: Any) -> Tensor:
        place = self._place(parts)
        if place is None:
            return self(lambda: make(always_made), **parts)
        steps = Steps(place, self if self.workers is None else None)
        made = self(lambda: make(steps), **parts)
        if place.path.is_file():
            self.store.forget(place.step("*").path)
        return made

    def _place(self, parts: Mapping[str, Any]) -> Place | None:
        """Where the chunk of these parts is stored; None if one of them has no digest."""
        prompt = self.prompt_of(parts["frames"]) if self.prompt_of and "frames" in parts else ""
        try:
            key = digest(parts, prompt)
        except NoDigest:
            return None
        return Place(self.store, self.store.folder / self.key / f"{key}{SUFFIX}", self.about)

    def step(self, make: Callable[[], Tensors], place: Place) -> Tensors:
        """A step of a chunk that this process makes."""
        return self._made_here(make, place)

    def _made_here(self, make: Callable[[], Tensors], place: Place | None) -> Tensors:
        if place is None:
            return make()
        found = place.read()
        if found is not None:
            self.reused += 1
            return found
        made = make()
        self.made += 1
        self._warn_once(place.write(made))
        return made

    def _read_or_made(self, make: Callable[[], Tensors], place: Place) -> Tensors:
        found = place.read()
        if found is None:
            return self._made_elsewhere(self.workers.begin(make, place), place)
        self.reused += 1
        return found

    def _made_elsewhere(self, pending: Callable[[], ChunkResult], place: Place | None) -> Tensors:
        made = pending()
        self.reused += made.was_cached
        self.made += not made.was_cached
        self._warn_once(made.reason)
        found = place.read() if made.tensors is None else made.tensors
        if found is None:
            raise OSError(
                f"{place.path.name} was written elsewhere, but is not in {place.path.parent}: the "
                "output folder must lie on storage that all machines share, under the same name"
            )
        return found

    def _warn_once(self, reason: str) -> None:
        if reason and not self.is_silent:
            self.store.warn(
                f"finished chunks cannot be kept in {self.store.folder} ({reason}): "
                "the run continues, but what is not kept is made again if it is interrupted"
            )
        self.is_silent = self.is_silent or bool(reason)


def _reason(error: BaseException) -> str:
    lines = str(getattr(error, "strerror", None) or error).splitlines()
    return lines[0][:1].lower() + lines[0][1:] if lines else type(error).__name__
