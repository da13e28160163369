"""Threads that begin chunks before they are requested.

Tasks are generators that pull from each other: decoding requests latents, interpolation windows
request key frames, and each waits for its input. To predict the next key frames while the windows
between earlier ones are made, the generator that begins windows runs in its own thread. Only one
thread runs at a time, and yields only when it waits, so tasks, nodes and hosts need no locks.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar

from ....core.tasks.finished import Abandoned

T = TypeVar("T")
WAIT = 0.1
"""Seconds between two checks of a waiting thread whether to stop."""


class Turns:
    """A lock that the running thread holds; other threads acquire it with `taken`."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.owner: int | None = None

    def take(self) -> None:
        self.lock.acquire()
        self.owner = threading.get_ident()

    def give(self) -> None:
        """Release the turn, if this thread has it."""
        if self.owner == threading.get_ident():
            self.owner = None
            self.lock.release()

    @contextmanager
    def taken(self) -> Iterator[None]:
        self.take()
        try:
            yield
        finally:
            self.give()

    @contextmanager
    def others(self) -> Iterator[None]:
        """Let other threads run meanwhile; for the thread that has the turn."""
        self.give()
        try:
            yield
        finally:
            self.take()

    def wait(self, event: threading.Event, check: Callable[[], None]) -> None:
        """Wait for an event; check() is called every `WAIT` seconds, in turn, and may raise."""
        while not event.is_set():
            with self.others():
                event.wait(WAIT)
            check()


class ItemQueue:
    """A queue of at most `most` items that one thread has begun and another has not yet taken."""

    def __init__(self, most: int):
        self.most = most
        self.items: deque[Any] = deque()
        self.changed = threading.Event()
        self.is_stopped = self.has_ended = False
        self.error: BaseException | None = None

    def notify(self) -> None:
        """Wake the thread that waits at the other end; called by the thread that has the turn."""
        self.changed.set()
        self.changed = threading.Event()


_queues: ContextVar[tuple[ItemQueue, ...]] = ContextVar("videoldm_queues", default=())


priority: ContextVar[float] = ContextVar("videoldm_priority", default=0)
"""Priority of what this thread begins, lowest first: the number of its workflow, plus one half for
stages that follow others; 0 in the main thread."""


def spawn(run: Callable[[], None], number: float, turns: Turns) -> None:
    """Run a function in a new thread, for workflow `number`; its errors end only that thread."""

    def whole() -> None:
        priority.set(number)
        with turns.taken(), suppress(Abandoned):
            run()

    threading.Thread(target=Context().run, args=(whole,), daemon=True).start()


def depth() -> int:
    """How many threads, in a chain, wait for what this one begins."""
    return len(_queues.get())


def check_wanted() -> None:
    """Raise Abandoned in a thread whose queue nobody reads any more."""
    if any(queue.is_stopped for queue in _queues.get()):
        raise Abandoned


def ahead(begun: Iterator[T], most: int, turns: Turns, check: Callable[[], None]) -> Iterator[T]:
    """Yield the items of `begun`, which runs in its own thread, up to `most` items ahead."""
    queue = ItemQueue(most)

    def run() -> None:
        with turns.taken():
            _queues.set((*_queues.get(), queue))
            try:
                _fill(queue, begun, turns, check)
            except Abandoned:
                pass
            except BaseException as error:
                queue.error = error
            queue.has_ended = True
            queue.notify()

    threading.Thread(target=copy_context().run, args=(run,), daemon=True).start()
    try:
        while True:
            while not (queue.items or queue.has_ended):
                turns.wait(queue.changed, check)
            if not queue.items:
                break
            yield queue.items.popleft()
            queue.notify()
        if queue.error is not None:
            raise queue.error
    finally:
        queue.is_stopped = True
        queue.notify()


def _fill(queue: ItemQueue, begun: Iterator, turns: Turns, check: Callable[[], None]) -> None:
    for item in begun:
        queue.items.append(item)
        queue.notify()
        while len(queue.items) >= queue.most:
            turns.wait(queue.changed, check)
        check_wanted()
