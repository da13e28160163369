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

from ....core.tasks.finished import NotWanted

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

    def wait(self, event: threading.Event, look: Callable[[], None]) -> None:
        """Wait for an event; look() is called every `WAIT` seconds, in turn, and may raise."""
        while not event.is_set():
            with self.others():
                event.wait(WAIT)
            look()


class Line:
    """A queue of at most `most` items that one thread has begun and another has not yet taken."""

    def __init__(self, most: int):
        self.most = most
        self.items: deque[Any] = deque()
        self.changed = threading.Event()
        self.is_stopped = self.has_ended = False
        self.error: BaseException | None = None

    def change(self) -> None:
        """Wake the thread that waits at the other end; called by the thread that has the turn."""
        self.changed.set()
        self.changed = threading.Event()


_lines: ContextVar[tuple[Line, ...]] = ContextVar("videoldm_lines", default=())


behind: ContextVar[float] = ContextVar("videoldm_behind", default=0)
"""Priority of what this thread begins, lowest first: the number of its workflow, plus one half for
stages that follow others; 0 in the main thread."""


def beside(run: Callable[[], None], number: float, turns: Turns) -> None:
    """Run a function in a new thread, for workflow `number`; its errors end only that thread."""

    def whole() -> None:
        behind.set(number)
        with turns.taken(), suppress(NotWanted):
            run()

    threading.Thread(target=Context().run, args=(whole,), daemon=True).start()


def depth() -> int:
    """How many threads, in a chain, wait for what this one begins."""
    return len(_lines.get())


def check_wanted() -> None:
    """Raise NotWanted in a thread whose queue nobody reads any more."""
    if any(line.is_stopped for line in _lines.get()):
        raise NotWanted


def ahead(begun: Iterator[T], most: int, turns: Turns, look: Callable[[], None]) -> Iterator[T]:
    """Yield the items of `begun`, which runs in its own thread, up to `most` items ahead."""
    line = Line(most)

    def run() -> None:
        with turns.taken():
            _lines.set((*_lines.get(), line))
            try:
                _fill(line, begun, turns, look)
            except NotWanted:
                pass
            except BaseException as error:
                line.error = error
            line.has_ended = True
            line.change()

    threading.Thread(target=copy_context().run, args=(run,), daemon=True).start()
    try:
        while True:
            while not (line.items or line.has_ended):
                turns.wait(line.changed, look)
            if not line.items:
                break
            yield line.items.popleft()
            line.change()
        if line.error is not None:
            raise line.error
    finally:
        line.is_stopped = True
        line.change()


def _fill(line: Line, begun: Iterator, turns: Turns, look: Callable[[], None]) -> None:
    for item in begun:
        line.items.append(item)
        line.change()
        while len(line.items) >= line.most:
            turns.wait(line.changed, look)
        check_wanted()
