"""Chunks as tasks ask for them: made before, made now, or made by others meanwhile.

A task that needs a chunk says `finished(make, **parts)`. One whose chunks do not depend on each
other begins them, and then asks for them in order:

    def begun():
        for ...:
            yield finished.begin(make, **parts)

    for chunk in finished.ahead(begun()):
        yield chunk()

In one process that is the same as asking for one after the other: a chunk that was begun is made
when it is asked for. `Workers` are others who make chunks, such as those of a cluster. They decide
who computes and nothing else: what is made, and in which order it is handed out, is the task's.
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
    """Chunks that may have been made before; this one makes them all, here."""

    def __call__(self, make: Callable[[], Tensor], /, **parts: Any) -> Tensor:
        """The tensor that make() returns; `parts` are all that it depends on."""
        return make()

    def begin(self, make: Callable[[], Tensor], /, **parts: Any) -> Callable[[], Tensor]:
        """Begin the chunk, and return what gives it when it is called."""
        return partial(self, make, **parts)

    def ahead(self, begun: Iterator[T]) -> Iterator[T]:
        """The same chunks, of which some may be begun before those in front are asked for."""
        return begun

    def in_steps(self, make: Callable[[Finished], Tensor], /, **parts: Any) -> Tensor:
        """The chunk that make(step) returns, in which step(make) keeps a tensor until the chunk
        itself is kept. Steps are told apart by the order in which they are asked for."""
        return self(lambda: make(always_made), **parts)


always_made = Finished()
"""No store: every chunk is made."""


def step_by_step(denoiser: Denoiser, step: Finished) -> Denoiser:
    """The denoiser, each of whose answers is kept as a step. Samplers compute everything else from
    them again, which takes no time."""
    return lambda x, sigma: step(lambda: denoiser(x, sigma)).to(x)


class NotWanted(BaseException):
    """Nobody asks any more for what this thread makes; nothing is to be kept or told of it."""


class Here:
    """A callback that stays in this process: where a chunk that reports to it is made elsewhere,
    the reports are sent to it."""


class Made(NamedTuple):
    """What became of a chunk. tensors: None where it is in the store. was_there: it had been made
    before. reason: why it could not be written."""

    tensors: Tensors | None
    was_there: bool = False
    reason: str = ""


class Arriving:
    """Parts of a video [b t c h w] of this shape, which one thread makes and another follows.

    wait(event) waits in the other's thread.
    """

    def __init__(self, shape: tuple[int, ...], wait: Callable[[Event], None]):
        self.shape, self.wait = shape, wait
        self.parts: deque[Any] = deque()
        self.changed = Event()
        self.has_ended = self.is_dropped = False

    def add(self, part: Any) -> None:
        self.parts.append(part)
        self._tell()

    def end(self, *, dropped: bool = False) -> None:
        """No part comes any more; dropped: although the video is not whole."""
        self.has_ended, self.is_dropped = True, dropped
        self._tell()

    def follow(self) -> Iterator[Any]:
        """The parts in order, once; NotWanted if the video is dropped."""
        while True:
            while not (self.parts or self.has_ended):
                self.wait(self.changed)
            if self.is_dropped:
                raise NotWanted
            if not self.parts:
                return
            yield self.parts.popleft()

    def _tell(self) -> None:
        self.changed.set()
        self.changed = Event()


class Workers(ABC):
    """Others who make chunks."""

    @abstractmethod
    def begin(self, make: Callable[[], Tensors], place: Place | None) -> Callable[[], Made]:
        """Have make() called, unless what it makes is in its place; a chunk without a place is
        always made. The function that is returned waits for it, and raises what make() raised."""

    @abstractmethod
    def ahead(self, begun: Iterator[T]) -> Iterator[T]:
        """See `Finished.ahead`."""

    def followed(self, shape: tuple[int, ...]) -> Arriving | None:
        """What a stage passes the parts of its video on to while it makes them, so that stages
        behind it can begin; None if nobody follows."""
        return None


@dataclass(frozen=True)
class MadeElsewhere(Finished):
    """No store: every chunk is made, by others."""

    workers: Workers

    def __call__(self, make: Callable[[], Tensor], /, **parts: Any) -> Tensor:
        return self.begin(make, **parts)()

    def begin(self, make: Callable[[], Tensor], /, **parts: Any) -> Callable[[], Tensor]:
        made = self.workers.begin(lambda: {"chunk": make()}, None)
        return lambda: made().tensors["chunk"]

    def ahead(self, begun: Iterator[T]) -> Iterator[T]:
        return self.workers.ahead(begun)


@dataclass(frozen=True)
class WithParts(Finished):
    """Chunks that also depend on `parts`."""

    finished: Finished
    parts: Mapping[str, Any]

    def __call__(self, make: Callable[[], Tensor], /, **parts: Any) -> Tensor:
        return self.finished(make, **parts, **self.parts)

    def begin(self, make: Callable[[], Tensor], /, **parts: Any) -> Callable[[], Tensor]:
        return self.finished.begin(make, **parts, **self.parts)

    def ahead(self, begun: Iterator[T]) -> Iterator[T]:
        return self.finished.ahead(begun)

    def in_steps(self, make: Callable[[Finished], Tensor], /, **parts: Any) -> Tensor:
        return self.finished.in_steps(make, **parts, **self.parts)
