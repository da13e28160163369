"""The finished chunks on disk: listing and removing them, which needs no torch."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

ABOUT, SUFFIX, PARTIAL = "run.json", ".safetensors", ".tmp"
OUTPUTS, OUTPUT = "outputs", ".output"
"""The folder of notes on whole stages, and the part of a file's name that marks a stage's output
that is not a chunk; see `stage_outputs`."""
HOUR = 3600.0


class RunFacts(NamedTuple):
    """A run in the list: number of chunks, bytes of all its files, and when it was last used."""

    key: str
    about: Mapping[str, Any]
    chunks: int
    size: int
    used: float


@dataclass
class KeptRuns:
    """The folder of all runs."""

    folder: Path

    def runs(self) -> list[RunFacts]:
        """All runs, the most recently used first."""
        found = (_facts(one) for one in _folders(self.folder))
        return sorted((one for one in found if one.size), key=lambda one: -one.used)

    def size(self) -> int:
        """Bytes that all chunks take."""
        return sum(one.size for one in _chunks(self.folder))

    def shrink(self, size: float) -> int:
        """Remove the least recently used chunks until the rest takes no more than `size` bytes;
        returns the bytes that the rest takes."""
        found = sorted(_chunks(self.folder), key=lambda one: one.used)
        left = sum(one.size for one in found)
        for chunk in found:
            if left <= size:
                break
            with suppress(OSError):
                chunk.path.unlink(missing_ok=True)  # Others may be removing them as well.
                left -= chunk.size
        self._sweep()
        return left

    def remove_older(self, seconds: float) -> None:
        """Remove the chunks that have not been used for so many seconds."""
        limit = time.time() - seconds
        for chunk in _chunks(self.folder):
            if chunk.used < limit:
                with suppress(OSError):
                    chunk.path.unlink()
        self._sweep()

    def remove(self, key: str) -> None:
        """Remove one run, or what is left of it."""
        shutil.rmtree(self.folder / key, ignore_errors=True)
        self._sweep()

    def _sweep(self) -> None:
        """Remove half-written files more than an hour old, folders without chunks, and notes on
        stages that have lost a file."""
        for note in (self.folder / OUTPUTS).glob("*.json"):
            if not all((self.folder / one).is_file() for one in _files_of(note)):
                with suppress(OSError):
                    note.unlink(missing_ok=True)
        for folder in _folders(self.folder):
            for path in folder.glob(f"*{PARTIAL}"):
                with suppress(OSError):
                    if path.stat().st_mtime < time.time() - HOUR:
                        path.unlink()
            left = [path for path in folder.iterdir() if path.name != ABOUT]
            if not left:
                shutil.rmtree(folder, ignore_errors=True)


class _Chunk(NamedTuple):
    path: Path
    size: int
    used: float


def _folders(root: Path) -> Iterator[Path]:
    if root.is_dir():
        yield from (path for path in sorted(root.iterdir()) if path.is_dir())


def _chunks(root: Path) -> Iterator[_Chunk]:
    for folder in _folders(root):
        yield from _chunks_of(folder)


def _chunks_of(folder: Path) -> Iterator[_Chunk]:
    for path in folder.glob(f"*{SUFFIX}"):
        with suppress(OSError):
            facts = path.stat()
            yield _Chunk(path, facts.st_size, facts.st_mtime)


def _files_of(note: Path) -> list[str]:
    """The files that a note on a stage names; one that does not exist if it cannot be read."""
    try:
        return [str(one) for one in json.loads(note.read_text(encoding="utf-8"))["known"]["files"]]
    except (OSError, ValueError, KeyError, TypeError):
        return [""]


def _facts(folder: Path) -> RunFacts:
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        about = {}
    found = list(_chunks_of(folder))
    about = about if isinstance(about, dict) else {}
    used = max((one.used for one in found), default=0.0)
    chunks = sum(OUTPUT not in one.path.name for one in found)
    return RunFacts(folder.name, about, chunks, sum(one.size for one in found), used)
