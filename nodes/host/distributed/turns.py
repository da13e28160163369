"""Threads that begin chunks ahead of those who ask for them.

Tasks are generators that pull from each other: decoding asks for latents, windows of frames ask for
key frames, and each waits for what it asked for. To predict the next key frames while the windows
between earlier ones are made, what begins windows runs in a thread of its own. Threads take turns:
one of them runs, and passes on its turn only where it waits. So no task, node or host needs to know
that there are threads.
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
"""Seconds after which somebody who waits looks whether to stop."""


class Turns:
    """Whose turn it is. A thread that has none takes it with `taken`."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.owner: int | None = None

    def take(self) -> None:
        self.lock.acquire()
        self.owner = threading.get_ident()

    def give(self) -> None:
        """Pass the turn on, if this thread has it."""
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
        """Others run meanwhile; for a thread whose turn it is."""
        self.give()
        try:
            yield
        finally:
            self.take()

    def wait(self, event: threading.Event, look: Callable[[], None]) -> None:
        """Wait for an event; look() is called now and then in the thread's turn, and may raise."""
        while not event.is_set():
            with self.others():
                event.wait(WAIT)
            look()


class Line:
    """What one thread has begun and another has not yet taken, at most `most` at a time."""

    def __init__(self, most: int):
        self.most = most
        self.items: deque[Any] = deque()
        self.changed = threading.Event()
        self.is_stopped = self.has_ended = False
        self.error: BaseException | None = None

    def change(self) -> None:
        """Wake who waits for the other end; called in the thread's turn."""
        self.changed.set()
        self.changed = threading.Event()


_lines: ContextVar[tuple[Line, ...]] = ContextVar("videoldm_lines", default=())


behind: ContextVar[float] = ContextVar("videoldm_behind", default=0)
"""How far behind what is asked for is what this thread begins: the number of its workflow, and half
a number for stages that follow others. 0 for the workflow whose turn it is."""


def beside(run: Callable[[], None], number: float, turns: Turns) -> None:
    """Run a function in a thread of its own, for the workflow of a number; errors end it."""

    def whole() -> None:
        behind.set(number)
        with turns.taken(), suppress(NotWanted):
            run()

    threading.Thread(target=Context().run, args=(whole,), daemon=True).start()


def depth() -> int:
    """How many others wait for what this thread makes."""
    return len(_lines.get())


def check_wanted() -> None:
    """Raise NotWanted in a thread whose line nobody reads any more."""
    if any(line.is_stopped for line in _lines.get()):
        raise NotWanted


def ahead(begun: Iterator[T], most: int, turns: Turns, look: Callable[[], None]) -> Iterator[T]:
    """Yield what `begun` yields, which runs in a thread of its own and is up to `most` ahead."""
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
