"""Files that were half written when a run ended: the next run of the same takes their place.

While a file is written, a note beside says where, and the writer holds the note locked. A note that
nobody holds is of a run that was killed or stopped: what it had written is removed, so that the
file that is written from its beginning again has the name that the other one would have got.
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
def taken_up(begin: Callable[[], NewFile], notes: Path, root: Path) -> Iterator[NewFile]:
    """The file that begin() begins, after what earlier writers of it left was removed.

    notes: the folder of notes of this file, whatever its number; it and the two above it are
    removed when they become empty. root: what lies elsewhere is not removed, whatever notes say.
    Where no notes can be written, the file is written all the same.
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
    """A note of a file, locked as long as it is open."""
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
    """Remove what a note names, if nobody holds it."""
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
    except ValueError:  # Killed before it was written.
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
    """Lock a file until it is closed, or its process ends; False if another holds it."""
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
