"""The workers of a run: chunks wait in one priority queue for the next idle worker."""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from ....core.graph import current_call
from ....core.tasks.chunk_store import Place
from ....core.tasks.finished import Abandoned, Arriving, ChunkResult, Tensors, Workers
from .packing import Packed, Weights, pack
from .turns import Turns, ahead, check_wanted, depth, priority, spawn
from .worker import Job, ProgressReports

log = logging.getLogger("videoldm")
T = TypeVar("T")
AHEAD = 2
"""Chunks per worker that a task may begin before it requests the first of them."""
LATE = 60.0
"""Seconds after which the user is warned that no worker has started."""
POLL_INTERVAL = 0.25
"""Seconds between two polls of a worker's progress."""


@dataclass(order=True)
class _Chunk:
    """A chunk that was begun. In the queue, earlier workflows come first, then chunks that more
    threads wait for, then older ones."""

    order: tuple[float, int, int]
    packed: Packed = field(compare=False)
    place: bytes | None = field(compare=False)
    context: Context = field(default_factory=copy_context, compare=False)
    done: threading.Event = field(default_factory=threading.Event, compare=False)
    made: ChunkResult | None = field(default=None, compare=False)
    error: BaseException | None = field(default=None, compare=False)


class Pool(Workers):
    """actors: Ray actors of class Worker. share: see `Weights`.

    Threads of tasks, which take turns, begin chunks and wait for them; one more thread dispatches
    them to workers.
    """

    def __init__(self, actors: Sequence[Any], share: Callable[[Any], Any]):
        self.actors, self.weights, self.turns = list(actors), Weights(share), Turns()
        self.numbers = count()
        self.messages: SimpleQueue[Callable[[_Dispatch], None]] = SimpleQueue()
        self.begun: dict[str, _Chunk] = {}  # by the file in the store
        self.reports: SimpleQueue[tuple[_Chunk, tuple]] = SimpleQueue()
        self.ready: list[Any] = []
        self.error: BaseException | None = None
        self.follow: Callable[[Arriving], None] | None = None
        self.is_closed = self.is_late = False
        self.begun_at = time.monotonic()
        self.turns.take()
        self.dispatch = threading.Thread(target=_Dispatch(self).run, daemon=True)
        self.dispatch.start()

    def close(self) -> None:
        """Begin no more chunks, and send nothing to workers."""
        self.is_closed = True
        self.messages.put(lambda dispatch: None)
        self.dispatch.join()
        self.turns.give()

    def begin(self, make: Callable[[], Tensors], place: Place | None) -> Callable[[], ChunkResult]:
        if self.is_closed:
            raise Abandoned
        path = "" if place is None else str(place.path)
        chunk = self.begun.get(path)
        if chunk is None:
            where = None if place is None else pack(place, self.weights).data
            if place is None and priority.get():
                raise Abandoned  # Without a place in the store, nobody would find it later.
            order = priority.get(), -depth(), next(self.numbers)
            chunk = _Chunk(order, pack(make, self.weights), where)
            if path:
                self.begun[path] = chunk
            self.messages.put(lambda dispatch: dispatch.add(chunk))
        return partial(self._made, chunk, path)

    def ahead(self, begun: Iterator[T]) -> Iterator[T]:
        return ahead(begun, AHEAD * len(self.actors), self.turns, self._check)

    def followed(self, shape: tuple[int, ...]) -> Arriving | None:
        if self.follow is None:
            return None
        arriving = Arriving(shape, lambda event: self.turns.wait(event, self._check))
        self.follow(arriving)
        return arriving

    def spawn(self, run: Callable[[], None], number: float) -> None:
        """Run, in its own thread, a function that begins chunks of workflow `number` early."""
        spawn(run, number, self.turns)

    def _made(self, chunk: _Chunk, path: str) -> ChunkResult:
        self.turns.wait(chunk.done, self._check)
        self._report()
        self.begun.pop(path, None)
        if chunk.error is not None:
            raise chunk.error
        return chunk.made

    def _check(self) -> None:
        """Called now and then by waiting threads: reports progress, and raises if they must end."""
        check_wanted()
        if self.is_closed and threading.current_thread() is not threading.main_thread():
            raise Abandoned
        self._report()
        call = current_call.get()
        if call is not None:
            call.check_interrupted()
        if self.error is not None:
            raise self.error
        if not (self.ready or self.is_late) and time.monotonic() > self.begun_at + LATE:
            self.is_late = True
            log.warning("no worker has started yet: the cluster may be busy with other programs")

    def _report(self) -> None:
        """Pass progress from workers to callbacks, each in the context in which its chunk began."""
        while not self.reports.empty():
            chunk, (number, progress) = self.reports.get()
            chunk.context.run(chunk.packed.callbacks[number], progress)


class _Dispatch:
    """The thread that dispatches chunks to workers."""

    def __init__(self, pool: Pool):
        self.pool = pool
        self.idle: list[Any] = []
        self.waiting: list[_Chunk] = []
        self.busy: dict[Any, _Chunk] = {}
        self.loaded: dict[Any, set[str]] = {}  # names of the modules that each worker was sent
        self.polling: set[Any] = set()

    def run(self) -> None:
        try:
            self._serve()
        except Exception as error:
            self.pool.error = error  # Otherwise threads would wait forever.

    def _serve(self) -> None:
        for actor in self.pool.actors:
            self._when_done(actor.ready.remote(), self._ready, actor)
        while not self.pool.is_closed:
            with suppress(Empty):
                self.pool.messages.get(timeout=POLL_INTERVAL)(self)
                continue
            self._poll()

    def add(self, chunk: _Chunk) -> None:
        heapq.heappush(self.waiting, chunk)
        self._assign()

    def _when_done(self, ref: Any, then: Callable, *what: Any) -> None:
        """Have then(*what, future) called in this thread when the Ray call is done."""
        messages = self.pool.messages
        ref.future().add_done_callback(
            lambda future: messages.put(lambda _: then(*what, future))
        )  # fmt: skip

    def _ready(self, actor: Any, future: Any) -> None:
        error = future.exception()
        if error is None:
            self.pool.ready.append(actor)
            self._free(actor)
        else:
            self.pool.error = _not_started(error)

    def _free(self, actor: Any) -> None:
        self.idle.append(actor)
        self._assign()

    def _assign(self) -> None:
        while self.idle and self.waiting and not self.pool.is_closed:
            chunk, known = heapq.heappop(self.waiting), dict(self.pool.weights.shared)
            actor = self._best(set(chunk.packed.modules), set(known))
            self.busy[actor] = chunk
            shared = {name: known[name] for name in chunk.packed.modules}
            job = Job(chunk.order[-1], chunk.packed.data, tuple(shared), tuple(known))
            self._when_done(actor.make.remote(job, chunk.place, shared), self._done, actor, chunk)

    def _best(self, modules: set[str], known: set[str]) -> Any:
        """The idle worker that has most of the modules that a chunk needs and, among equals, fewest
        others. So stages tend to stay on the same workers."""
        has = {actor: self.loaded.get(actor, set()) & known for actor in self.idle}
        best = max(self.idle, key=lambda actor: (len(has[actor] & modules), -len(has[actor])))
        self.idle.remove(best)
        self.loaded[best] = has[best] | modules
        return best

    def _done(self, actor: Any, chunk: _Chunk, future: Any) -> None:
        self.busy.pop(actor, None)
        error = future.exception()
        if error is None:
            chunk.made, reports = future.result()
            self._queue_reports(chunk, reports)
        else:
            chunk.error = cause_of(error)
        chunk.packed.modules.clear()
        chunk.done.set()
        self._free(actor)

    def _poll(self) -> None:
        """Poll the progress of busy workers."""
        for actor, chunk in self.busy.items():
            if actor not in self.polling:
                self.polling.add(actor)
                self._when_done(actor.poll.remote(), self._polled, actor, chunk)

    def _polled(self, actor: Any, chunk: _Chunk, future: Any) -> None:
        self.polling.discard(actor)
        if future.exception() is None:
            self._queue_reports(chunk, future.result())

    def _queue_reports(self, chunk: _Chunk, reports: ProgressReports) -> None:
        """Queue a chunk's progress, and drop reports of one that the worker has begun since."""
        for number, callback, progress in reports:
            if number == chunk.order[-1]:
                self.pool.reports.put((chunk, (callback, progress)))


def _not_started(error: BaseException) -> BaseException:
    """Why a worker did not start: the error it raised, or the last line of Ray's message."""
    cause = getattr(error, "cause", None)
    said = [line.strip() for line in str(error).splitlines() if line.strip()]
    return cause or ValueError(f"a worker could not start: {said[-1] if said else error!r}")


def cause_of(error: BaseException) -> BaseException:
    """The error that a worker raised, instead of Ray's wrapper around it."""
    return getattr(error, "cause", None) or error
