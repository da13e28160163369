"""Files under way: every run has names of its own, and no file of anybody else is replaced.

Until it is finished, `<stem><suffix>` is called `<stem>.partial<suffix>`. That file is created
before any work starts and only if it is not there, so that two runs never write into one file; a
numbered name is taken as soon as any file with its number exists, whatever its suffix. A run that
is killed leaves its partial file and with it its number, which the next run passes over.
"""

from __future__ import annotations

import errno
import os
import random
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path


class NewFile:
    """A file, or a folder of images, that is being made.

    path: its name once it is finished, which `finish` may still change to one with a higher number.
    partial: what is written until then; it exists from the beginning and is this object's alone.
    """

    def __init__(self, path: Path, partial: Path, *, series: tuple[str, str] | None = None,
                 replaces: bool = False):  # fmt: skip
        self.path, self.partial = path, partial
        self.series, self.replaces = series, replaces
        self.is_finished = False

    @classmethod
    def at(cls, path: Path, *, folder: bool = False, under_way: str | None = None) -> NewFile:
        """Begin the file (or folder) `path`; OSError where nothing can be written.

        A file that is there already is replaced at the end; one that appears meanwhile is not.
        under_way: suffix of the partial file where it is not that of the file.
        """
        suffix = "" if folder else path.suffix
        stem = path.name.removesuffix(suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            name = f"{stem}.partial{number if number > 1 else ''}"
            partial = path.with_name(f"{name}{under_way or suffix}")
            if _made(partial, folder) and _is_alone(partial, suffix):
                return cls(path, partial, replaces=path.exists())
        raise AssertionError("numbers do not end")

    @classmethod
    def numbered(cls, base: Path, suffix: str, *, under_way: str | None = None) -> NewFile:
        """Begin "<base>_00001_<suffix>", or the first one after the highest number that is taken.

        Without a suffix it is a folder. The folder it is in is made. under_way: as in `at`.
        """
        base.parent.mkdir(parents=True, exist_ok=True)
        number = 0
        for attempt in count(1):
            number = max(number, _highest(base)) + 1
            stem = f"{base.name}_{number:05}_"
            partial = base.with_name(f"{stem}.partial{under_way or suffix}")
            if not _made(partial, folder=not suffix):
                continue
            # Of two with one number, at least the later one sees the other, and gives way.
            if _names(base, number) == [partial.name]:
                series = base.name, suffix
                return cls(base.with_name(f"{stem}{suffix}"), partial, series=series)
            partial.unlink() if suffix else partial.rmdir()
            number = 0
            time.sleep(random.uniform(0, 0.005 * attempt))
        raise AssertionError("numbers do not end")

    def finish(self, written: Path | None = None) -> Path:
        """Give what was written (by default the partial file) its name, and return that.

        A numbered file whose name was taken meanwhile gets the next free number; for any other,
        FileExistsError says that somebody else wrote it.
        """
        written = written or self.partial
        if self.replaces and not written.is_dir():
            os.replace(written, self.path)
        else:
            self._move(written)
        self.is_finished = True
        if written != self.partial:
            self.partial.unlink(missing_ok=True)
        return self.path

    def _move(self, written: Path) -> None:
        if self.replaces:
            self.path.rmdir()  # An empty folder, or the OSError that says it is not.
        while True:
            try:
                return move_new(written, self.path)
            except FileExistsError:
                if self.series is None:
                    reason = "another program has written it meanwhile"
                    raise FileExistsError(errno.EEXIST, reason, str(self.path)) from None
            name, suffix = self.series
            number = _highest(self.path.with_name(name)) + 1
            self.path = self.path.with_name(f"{name}_{number:05}_{suffix}")

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """The partial file, to be written at once: finished at the end, removed after a fault."""
        try:
            yield self.partial
            self.finish()
        except BaseException:
            self.partial.unlink(missing_ok=True)
            raise

    def discard(self) -> None:
        """Give the name back, unless something was written already."""
        if not self.is_finished and self.left() is None:
            with suppress(OSError):
                self.partial.rmdir() if self.partial.is_dir() else self.partial.unlink()

    def left(self) -> Path | None:
        """What there is of a file that was not finished, or None if nothing was written."""
        if self.is_finished:
            return None
        suffix = self.series[1] if self.series else self.path.suffix
        places = [self.partial, *([self.partial.with_suffix(suffix)] if suffix else [])]
        return next(filter(_has_content, places), None)


def move_new(source: Path, target: Path) -> None:
    """Rename a file or folder; FileExistsError if there is anything called `target`."""
    if os.name == "nt":
        os.rename(source, target)  # Refuses names that are taken, which POSIX does not.
    elif source.is_dir():
        target.mkdir()
        os.replace(source, target)
    else:
        _move_file(source, target)


def _move_file(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # FAT and some network shares have no links.
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        os.replace(source, target)
    else:
        source.unlink()


def _made(path: Path, folder: bool) -> bool:
    """Create an empty file or folder; False if the name is taken."""
    try:
        if folder:
            path.mkdir()
        else:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except FileExistsError:
        return False
    return True


def _is_alone(partial: Path, suffix: str) -> bool:
    """Give the name back if an older run left a file that this one may come to write, too."""
    other = partial.with_suffix(suffix) if suffix else partial
    if other == partial or not other.exists():
        return True
    partial.unlink()
    return False


def _names(base: Path, number: int) -> list[str]:
    return [one for one in os.listdir(base.parent) if _number(one, base.name) == number]


def _highest(base: Path) -> int:
    return max((_number(one, base.name) for one in os.listdir(base.parent)), default=0)


def _number(name: str, base: str) -> int:
    match = re.match(re.escape(base) + r"_(\d+)_", name)
    return int(match[1]) if match else 0


def _has_content(path: Path) -> bool:
    if path.is_dir():
        return any(path.iterdir())
    return path.is_file() and path.stat().st_size > 0
