"""Finished chunks on disk: a run that was killed goes on with the chunk it was in.

A task asks for each chunk in the words

    finished(make, condition=..., sigmas=..., noise=...)

and gets it: read, if it was made before from the same things, else made and written before it is
returned. What a chunk is made from is its key: everything that `make` depends on (the frames'
numbers, given frames and concatenated ones by their values, noise levels, seeds, the prompt of
these frames), and the key of the run for what all of its chunks have in common (models, files,
device, version). A task needs to know nothing of resumption: it begins again and is handed what is
there. So what depends on a change is made again, chunk by chunk, and nothing else: a segment with
another prompt, and those which it hands its frames over to; not those that are handed the same
frames as before.

    runs/<key of the run>/run.json              what made the chunks, for people
    runs/<key of the run>/<key>.safetensors     a chunk, with the digest of its values
    runs/<key of the run>/<key>.3.safetensors   a step of a chunk that is not finished

What is only finished all at once, such as a video whose windows are averaged at every step, is made
`in_steps`: the network's answers are kept one by one, and removed when the chunk is there.

A chunk is written beside, synced and renamed: whatever moment a run ends at, and however many write
into one folder, a file that has its name is whole; one whose digest is wrong is made again. If
nothing can be written, the run goes on and says so once. What was not used for longest is removed
when the limit is reached.
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
from .finished import Finished, Made, Tensors, Workers, always_made
from .kept_runs import ABOUT, SUFFIX, KeptRuns

T = TypeVar("T")
FULL, ROOM = 0.95, 0.9
"""Parts of the limit: at which chunks are removed, and which then is left in use."""
COUNTED = 0.01
"""Part of the limit that this process writes before it counts again what there is: others may write
into the folder, too. So five processes together stay below the limit."""


@dataclass
class ChunkStore(KeptRuns):
    """The folder of all runs. limit: bytes that chunks may take. warn: is told, in one sentence,
    what could not be written."""

    limit: float
    warn: Callable[[str], None]
    taken: float = 0.0  # bytes in use
    uncounted: float = inf  # that were written since they were counted

    def run(
        self, key: str, about: Mapping[str, Any], prompt_of: PromptOf | None = None,
        workers: Workers | None = None,
    ) -> Run:  # fmt: skip
        """The chunks of one run. about: JSON values for people who look at the list of runs.
        prompt_of, workers: see `Run`."""
        return Run(self, key, about, prompt_of, workers)

    def write(self, path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        """Write a chunk; OSError or SafetensorError where it cannot be, which leaves nothing."""
        size = sum(one.nbytes for one in tensors.values())
        if size > ROOM * self.limit:  # Room for it would cost all others.
            sizes = f"{size / 1e9:.2g} GB is too large for the limit of {self.limit / 1e9:.2g} GB"
            raise OSError(f"one of {sizes}")
        self._make_room(size)
        try:
            self._write(path, tensors, about)
        except (OSError, SafetensorError):
            if path.parent.is_dir():
                raise
            self._write(path, tensors, about)  # Somebody else had removed the folder meanwhile.

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


class Asked(NamedTuple):
    """A chunk that a task asked for: the absolute numbers of its frames, what the task calls it,
    and whether it was there."""

    frames: Sequence[int]
    level: str
    was_there: bool


PromptOf = Callable[[Any], str]
"""prompt_of(frames) -> the digest of the prompts that these absolute frames are made with."""


@dataclass(frozen=True)
class Place:
    """Where a chunk is kept."""

    store: ChunkStore
    path: Path
    about: Mapping[str, Any]

    def step(self, number: int | str) -> Place:
        """Where a step of the chunk is kept until the chunk is."""
        name = f"{self.path.name.removesuffix(SUFFIX)}.{number}{SUFFIX}"
        return replace(self, path=self.path.with_name(name))

    def read(self) -> Tensors | None:
        """The chunk, None if it is not there or not as it was written."""
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
    """Steps of the chunk of a place. run: what counts them, None where the chunk is made by
    others."""

    place: Place
    run: Run | None
    asked: int = 0

    def __call__(self, make: Callable[[], Tensor], /, **parts: Any) -> Tensor:
        place = self.place.step(self.asked)
        self.asked += 1
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

    prompt_of: of chunks that say `frames`, what else they depend on. workers: who makes those that
    are not there, None for this process. made, taken: how many chunks were made and how many read
    since it was opened. asked: those that say their frames, in order. begun: the files of all
    chunks in order, None for what is not kept.
    """

    store: ChunkStore
    key: str
    about: Mapping[str, Any]
    prompt_of: PromptOf | None = None
    workers: Workers | None = None
    made: int = 0
    taken: int = 0
    asked: list[Asked] = field(default_factory=list)
    begun: list[Path | None] = field(default_factory=list)
    is_silent: bool = field(default=False, repr=False)

    def __call__(self, make: Callable[[], Tensor], /, **parts: Any) -> Tensor:
        return self.begin(make, **parts)()

    def begin(self, make: Callable[[], Tensor], /, **parts: Any) -> Callable[[], Tensor]:
        begun = self.begin_tensors(lambda: {"chunk": make()}, **parts)
        return lambda: begun()["chunk"]

    def begin_tensors(
        self, make: Callable[[], Tensors], /, **parts: Any
    ) -> Callable[[], Tensors]:  # fmt: skip
        """As `begin`, for several tensors that are made together."""
        place = self._place(parts)
        self.begun.append(None if place is None else place.path)
        return partial(self._noted, self._begun(make, place), parts)

    def _begun(self, make: Callable[[], Tensors], place: Place | None) -> Callable[[], Tensors]:
        if self.workers is None:
            return partial(self._made_here, make, place)
        if place is not None and place.path.exists():
            return partial(self._read_or_made, make, place)
        return partial(self._made_elsewhere, self.workers.begin(make, place), place)

    def _noted(self, get: Callable[[], Tensors], parts: Mapping[str, Any]) -> Tensors:
        made, taken = self.made, self.taken
        found = get()
        if "frames" in parts:
            was_there = self.made == made and self.taken > taken
            self.asked.append(Asked(parts["frames"], parts.get("level", ""), was_there))
        return found

    def ahead(self, begun: Iterator[T]) -> Iterator[T]:
        return begun if self.workers is None else self.workers.ahead(begun)

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
        """None for what cannot be told from others."""
        prompt = self.prompt_of(parts["frames"]) if self.prompt_of and "frames" in parts else ""
        try:
            key = digest(parts, prompt)
        except NoDigest:
            return None
        return Place(self.store, self.store.folder / self.key / f"{key}{SUFFIX}", self.about)

    def step(self, make: Callable[[], Tensors], place: Place) -> Tensors:
        """A step of a chunk that is made in this process."""
        return self._made_here(make, place)

    def _made_here(self, make: Callable[[], Tensors], place: Place | None) -> Tensors:
        if place is None:
            return make()
        found = place.read()
        if found is not None:
            self.taken += 1
            return found
        made = make()
        self.made += 1
        self._tell(place.write(made))
        return made

    def _read_or_made(self, make: Callable[[], Tensors], place: Place) -> Tensors:
        found = place.read()
        if found is None:
            return self._made_elsewhere(self.workers.begin(make, place), place)
        self.taken += 1
        return found

    def _made_elsewhere(self, begun: Callable[[], Made], place: Place | None) -> Tensors:
        made = begun()
        self.taken += made.was_there
        self.made += not made.was_there
        self._tell(made.reason)
        found = place.read() if made.tensors is None else made.tensors
        if found is None:
            raise OSError(
                f"{place.path.name} was written elsewhere, but is not in {place.path.parent}: the "
                "output folder must lie on storage that all machines share, under the same name"
            )
        return found

    def _tell(self, reason: str) -> None:
        if reason and not self.is_silent:
            self.store.warn(
                f"finished chunks cannot be kept in {self.store.folder} ({reason}): "
                "the run goes on, but what is not kept must be made again if it is interrupted"
            )
        self.is_silent = self.is_silent or bool(reason)


def _reason(error: BaseException) -> str:
    lines = str(getattr(error, "strerror", None) or error).splitlines()
    return lines[0][:1].lower() + lines[0][1:] if lines else type(error).__name__
