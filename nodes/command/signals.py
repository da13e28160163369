"""Stopping on SIGINT and SIGTERM: gently between two steps first, at once the second time."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

HANDLED = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """A context in which both signals raise KeyboardInterrupt, or, `gently`, only set a mark.

    Calling it tells whether a signal came. Handlers are put back at the end. Outside of the main
    thread, where Python allows no handlers, it does nothing.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.gentle = False
        self.before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self.before = {one: signal.signal(one, self._handle) for one in HANDLED}
        return self

    def __exit__(self, *_: object) -> None:
        for one, handler in self.before.items():
            signal.signal(one, handler)

    def __call__(self) -> bool:
        return self.received is not None

    @property
    def code(self) -> int:
        """The exit code of an interrupted command: 128 + the signal's number."""
        return 128 + (self.received or signal.SIGINT)

    @contextmanager
    def gently(self) -> Iterator[StopSignals]:
        """Within this context, the first signal is only noted: somebody asks for it regularly."""
        self.gentle = True
        try:
            yield self
        finally:
            self.gentle = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        first, self.received = self.received is None, number
        if not (self.gentle and first):
            raise KeyboardInterrupt
        start = "\n" if sys.stderr.isatty() else ""  # The terminal has just written ^C.
        print(f"{start}stopping after this step; once more stops at once", file=sys.stderr)
