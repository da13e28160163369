"""Importing large libraries without garbage collection."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Disable garbage collection meanwhile, and exempt all objects that exist then: classes and
    functions that stay. Collection took a quarter of the time of importing torch, diffusers and
    transformers."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()
