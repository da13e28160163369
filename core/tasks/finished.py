"""Requests for chunks, which may be made now, be in a store, or be made by other processes.

A task that needs a chunk calls `finished(make, **parts)`. One whose chunks do not depend on each
other begins them, and then collects them in order:

    def pending():
        for ...:
            yield finished.begin(make, **parts)

    for chunk in finished.ahead(pending()):
        yield chunk()

In a single process this is the same as one request after the other: a chunk is made when it is
collected. `Workers` make chunks elsewhere, such as on a cluster. They decide only who computes: the
task decides what is made, and in which order it is yielded.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from torch import Tensor

if TYPE_CHECKING:
    from ..diffusion.denoiser import Denoiser
    from .chunk_store import Place

T = TypeVar("T")
Tensors = Mapping[str, Tensor]


class Finished:
    """Requests for chunks. This class stores nothing: it makes every chunk, in this process."""

    def __call__(self, make: Callable[[], Tensor], /, **parts: Any) -> Tensor:
        """The tensor that make() returns; `parts` is everything that it depends on."""
        return make()

    def begin(self, make: Callable[[], Tensor], /, **parts: Any) -> Callable[[], Tensor]:
        """Begin a chunk; the returned function returns its tensor."""
        return partial(self, make, **parts)

    def ahead(self, pending: Iterator[T]) -> Iterator[T]:
        """The same chunks, some of which may be begun before earlier ones are collected."""
        return pending

    def in_steps(self, make: Callable[[Finished], Tensor], /, **parts: Any) -> Tensor:
        """The chunk that make(step) returns. step(make) stores a tensor until the chunk itself is
        stored; steps are identified by the order of the calls."""
        return self(lambda: make(always_made), **parts)


always_made = Finished()
"""No store: every chunk is made."""


def step_by_step(denoiser: Denoiser, step: Finished) -> Denoiser:
    """The denoiser with each of its answers stored as a step. Everything else is recomputed by the
    sampler when a run resumes, which takes no time."""
    return lambda x, sigma: step(lambda: denoiser(x, sigma)).to(x)


class Abandoned(BaseException):
    """Ends a thread whose result is no longer wanted; nothing is to be stored or reported."""


class LocalCallback:
    """A callback that stays in this process: if the chunk that reports to it is made elsewhere, the
    reports are sent back."""


class ChunkResult(NamedTuple):
    """The outcome of making a chunk. tensors: None if they are in the store. was_cached: whether it
    had been made before. reason: why it could not be stored."""

    tensors: Tensors | None
    was_cached: bool = False
    reason: str = ""


class Arriving:
    """A video [b t c h w] of this shape whose parts one thread makes and another consumes.

    wait(event) waits in the consumer's thread.
    """

    def __init__(self, shape: tuple[int, ...], wait: Callable[[Event], None]):
        self.shape, self.wait = shape, wait
        self.parts: deque[Any] = deque()
        self.changed = Event()
        self.has_ended = self.is_dropped = False

    def add(self, part: Any) -> None:
        self.parts.append(part)
        self._notify()

    def end(self, *, dropped: bool = False) -> None:
        """No more parts will come; dropped: the video is incomplete."""
        self.has_ended, self.is_dropped = True, dropped
        self._notify()

    def follow(self) -> Iterator[Any]:
        """Yield the parts in order, once; raises Abandoned if the video is dropped."""
        while True:
            while not (self.parts or self.has_ended):
                self.wait(self.changed)
            if self.is_dropped:
                raise Abandoned
            if not self.parts:
                return
            yield self.parts.popleft()

    def _notify(self) -> None:
        self.changed.set()
        self.changed = Event()


class Workers(ABC):
    """Other processes that make chunks."""

    @abstractmethod
    def begin(self, make: Callable[[], Tensors], place: Place | None) -> Callable[[], ChunkResult]:
        """Have make() called, unless the chunk is already stored at `place`; one without a place is
        always made. The returned function waits for the outcome and raises what make() raised."""

    @abstractmethod
    def ahead(self, pending: Iterator[T]) -> Iterator[T]:
        """See `Finished.ahead`."""

    def followed(self, shape: tuple[int, ...]) -> Arriving | None:
        """Where a stage passes on the parts of its video as it makes them, so that the stages after
        it can start; None if there are none."""
        return None


@dataclass(frozen=True)
class MadeByWorkers(Finished):
    """No store: every chunk is made, by workers."""

    workers: Workers

    def __call__(self, make: Callable[[], Tensor], /, **parts: Any) -> Tensor:
        return self.begin(make, **parts)()

    def begin(self, make: Callable[[], Tensor], /, **parts: Any) -> Callable[[], Tensor]:
        made = self.workers.begin(lambda: {"chunk": make()}, None)
        return lambda: made().tensors["chunk"]

    def ahead(self, pending: Iterator[T]) -> Iterator[T]:
        return self.workers.ahead(pending)


@dataclass(frozen=True)
class WithParts(Finished):
    """Chunks that also depend on `parts`."""

    finished: Finished
    parts: Mapping[str, Any]

    def __call__(self, make: Callable[[], Tensor], /, **parts: Any) -> Tensor:
        return self.finished(make, **parts, **self.parts)

    def begin(self, make: Callable[[], Tensor], /, **parts: Any) -> Callable[[], Tensor]:
        return self.finished.begin(make, **parts, **self.parts)

    def ahead(self, pending: Iterator[T]) -> Iterator[T]:
        return self.finished.ahead(pending)

    def in_steps(self, make: Callable[[Finished], Tensor], /, **parts: Any) -> Tensor:
        return self.finished.in_steps(make, **parts, **self.parts)
