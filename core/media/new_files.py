"""Creates output files under names that are unique per run, without replacing others' files.

Until it is finished, `<stem><suffix>` is written as `<stem>.partial<suffix>`. That file is created
exclusively before any work starts, so that two runs never write to one file. A number is taken as
soon as any file with it exists, whatever its suffix. A run that is killed leaves its partial file,
whose number the next run skips.
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
    """A file, or a folder of images, that is being written.

    path: its final name; `finish` may still change it to one with a higher number. partial: where
    to write until then; it exists from the start and no other object has it.
    """

    def __init__(self, path: Path, partial: Path, *, series: tuple[str, str] | None = None,
                 replaces: bool = False):  # fmt: skip
        self.path, self.partial = path, partial
        self.series, self.replaces = series, replaces
        self.is_finished = False

    @classmethod
    def at(cls, path: Path, *, folder: bool = False, partial_suffix: str | None = None) -> NewFile:
        """Start the file (or folder) `path`; OSError if it cannot be created.

        A file that already exists is replaced at the end; one that appears meanwhile is not.
        partial_suffix: suffix of the partial file, if it differs from the file's.
        """
        suffix = "" if folder else path.suffix
        stem = path.name.removesuffix(suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            name = f"{stem}.partial{number if number > 1 else ''}"
            partial = path.with_name(f"{name}{partial_suffix or suffix}")
            if _created(partial, folder) and _has_no_rival(partial, suffix):
                return cls(path, partial, replaces=path.exists())
        raise AssertionError("numbers do not end")

    @classmethod
    def numbered(cls, base: Path, suffix: str, *, partial_suffix: str | None = None) -> NewFile:
        """Start "<base>_00001_<suffix>", or with the number after the highest one taken.

        Without a suffix it is a folder. Creates the parent folder. partial_suffix: as in `at`.
        """
        base.parent.mkdir(parents=True, exist_ok=True)
        number = 0
        for attempt in count(1):
            number = max(number, _highest(base)) + 1
            stem = f"{base.name}_{number:05}_"
            partial = base.with_name(f"{stem}.partial{partial_suffix or suffix}")
            if not _created(partial, folder=not suffix):
                continue
            # Of two runs with one number, at least the later sees the other, and backs off.
            if _names(base, number) == [partial.name]:
                series = base.name, suffix
                return cls(base.with_name(f"{stem}{suffix}"), partial, series=series)
            partial.unlink() if suffix else partial.rmdir()
            number = 0
            time.sleep(random.uniform(0, 0.005 * attempt))
        raise AssertionError("numbers do not end")

    def finish(self, written: Path | None = None) -> Path:
        """Rename what was written (by default the partial file) to its final name; return that.

        A numbered file whose name was taken meanwhile gets the next free number; any other raises
        FileExistsError.
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
            self.path.rmdir()  # Raises OSError unless the folder is empty.
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
        """Context that yields the partial file, and finishes it, or removes it after an error."""
        try:
            yield self.partial
            self.finish()
        except BaseException:
            self.partial.unlink(missing_ok=True)
            raise

    def discard(self) -> None:
        """Remove the partial file if nothing was written, which frees its name."""
        if not self.is_finished and self.left() is None:
            with suppress(OSError):
                self.partial.rmdir() if self.partial.is_dir() else self.partial.unlink()

    def left(self) -> Path | None:
        """The partial content of an unfinished file; None if nothing was written."""
        if self.is_finished:
            return None
        suffix = self.series[1] if self.series else self.path.suffix
        places = [self.partial, *([self.partial.with_suffix(suffix)] if suffix else [])]
        return next(filter(_has_content, places), None)


def move_new(source: Path, target: Path) -> None:
    """Rename a file or folder; FileExistsError if `target` exists."""
    if os.name == "nt":
        os.rename(source, target)  # Fails if the target exists, unlike on POSIX.
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
    except OSError:  # FAT and some network shares have no hard links.
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        os.replace(source, target)
    else:
        source.unlink()


def _created(path: Path, folder: bool) -> bool:
    """Create an empty file or folder; False if the name is taken."""
    try:
        if folder:
            path.mkdir()
        else:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except FileExistsError:
        return False
    return True


def _has_no_rival(partial: Path, suffix: str) -> bool:
    """Whether no earlier run left a partial file with the final suffix; if one did, remove ours."""
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
