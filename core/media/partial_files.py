"""Removes partial files of interrupted runs when the same file is written again.

While a file is written, a locked note in a separate folder lists its paths. A note that nobody has
locked belongs to a run that was killed or stopped: its partial files are removed, so that the new
file gets the name that the interrupted one would have got.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO
from uuid import uuid4

from .new_files import NewFile

PARTIAL, NOTE = ".partial", ".json"


@contextmanager
def replacing_partials(begin: Callable[[], NewFile], notes: Path, root: Path) -> Iterator[NewFile]:
    """Remove what interrupted writers of this file left, then yield the file from begin().

    notes: the folder of this file's notes, whatever its number; it and its two parents are removed
    when empty. root: nothing outside this folder is removed, whatever the notes say. If notes
    cannot be written, the file is written all the same.
    """
    for note in sorted(notes.glob(f"*{NOTE}")) if notes.is_dir() else ():
        _clear(note, root)
    file = begin()
    note = _noted(file, notes)
    try:
        yield file
        if note is not None:
            _forget(note, Path(note.name))
            note = None
    finally:
        if note is not None:
            note.close()


def _noted(file: NewFile, notes: Path) -> TextIO | None:
    """Write a note about a file, locked as long as it is open; None if that fails."""
    places = {file.partial, *([file.partial.with_suffix(file.path.suffix)] if file.path.suffix
                              else [])}  # fmt: skip
    try:
        notes.mkdir(parents=True, exist_ok=True)
        note = open(notes / f"{uuid4().hex}{NOTE}", "x", encoding="utf-8")
        _lock(note)
        json.dump([str(one.absolute()) for one in sorted(places)], note)
        note.flush()
    except OSError:
        return None
    return note


def _clear(path: Path, root: Path) -> None:
    """Remove the files listed in a note, unless it is locked."""
    with suppress(OSError):
        note = open(path, "r+", encoding="utf-8")
        if not _lock(note):
            note.close()
            return
        for place in _named(note, root.absolute()):
            with suppress(OSError):
                shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
        _forget(note, path)


def _named(note: TextIO, root: Path) -> list[Path]:
    try:
        found = json.load(note)
    except ValueError:  # The run was killed before it wrote the note.
        return []
    paths = [Path(os.path.normpath(one)) for one in found if isinstance(one, str)]
    return [one for one in paths if one.is_relative_to(root) and PARTIAL in one.name]


def _forget(note: TextIO, path: Path) -> None:
    note.close()
    with suppress(OSError):
        path.unlink(missing_ok=True)
        for folder in list(path.parents)[:3]:
            folder.rmdir()


def _lock(file: TextIO) -> bool:
    """Lock a file until it is closed or the process ends; False if it is locked already."""
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
