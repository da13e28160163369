"""Stopping on SIGINT and SIGTERM: the first signal stops between two steps, the second at once.

A step that takes longer than `GRACE` is interrupted between two operations.
"""

from __future__ import annotations

import _thread
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

HANDLED = (signal.SIGINT, signal.SIGTERM)
GRACE = 0.3
"""Seconds within which the run should have polled for a signal."""


class StopSignals:
    """A context in which both signals raise KeyboardInterrupt or, within `gently`, set a flag.

    Calling it polls the flag. The handlers are restored at the end. Outside of the main thread,
    where Python allows no handlers, it does nothing.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.gentle = False
        self.before: dict[int, Any] = {}
        self.timer: threading.Timer | None = None
        self.is_overdue = False

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self.before = {one: signal.signal(one, self._handle) for one in HANDLED}
        return self

    def __exit__(self, *_: object) -> None:
        for one, handler in self.before.items():
            signal.signal(one, handler)

    def __call__(self) -> bool:
        if self.received is not None:
            self._forget_timer()  # The caller stops now, and needs time to close its files.
        return self.received is not None

    @property
    def code(self) -> int:
        """The exit code of an interrupted command: 128 + the signal's number."""
        return 128 + (self.received or signal.SIGINT)

    @contextmanager
    def gently(self) -> Iterator[StopSignals]:
        """Within this context, the first signal only sets a flag; if that is not polled within
        `GRACE` seconds, KeyboardInterrupt is raised after all."""
        self.gentle = True
        try:
            yield self
        finally:
            self.gentle = False
            self._forget_timer()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.is_overdue:
            self.is_overdue = False
            if self.timer is None:  # The flag was polled meanwhile.
                return
        first, self.received = self.received is None, number
        if not (self.gentle and first):
            self._forget_timer()
            raise KeyboardInterrupt
        self.timer = threading.Timer(GRACE, self._insist, [number])
        self.timer.daemon = True
        self.timer.start()
        start = "\n" if sys.stderr.isatty() else ""  # The terminal has just written ^C.
        print(f"{start}stopping after this step; a second signal stops at once", file=sys.stderr)

    def _insist(self, number: int) -> None:
        """Let the main thread handle the signal a second time."""
        self.is_overdue = True
        _thread.interrupt_main(number)

    def _forget_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
