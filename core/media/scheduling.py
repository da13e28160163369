"""Keeps encoders from changing how this process is scheduled."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

THREADS = Path("/proc/self/task")
"""A folder per thread, named after its number; on Linux only."""


@contextmanager
def usual_scheduling() -> Iterator[None]:
    """The calling thread and threads that start meanwhile are scheduled as it was before.

    For a user who is root, SVT-AV1 makes the thread that opens an encoder and the encoder's own
    threads real-time ones. The first would stay so, and all of them starve the rest of the machine.
    """
    if not THREADS.is_dir():
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    known = set(os.listdir(THREADS)) - {str(threading.get_native_id())}
    try:
        yield
    finally:
        for number in set(os.listdir(THREADS)) - known:
            with suppress(OSError):  # A thread may have ended.
                os.sched_setscheduler(int(number), policy, parameters)
