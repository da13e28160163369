"""Digests of the files that node inputs name, cached until a file changes."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from ....core.families import included_files
from .folders import IMAGES, LATENTS, MODEL_FOLDERS, VIDEOS, WEIGHTS

if TYPE_CHECKING:
    from ..interface import FolderAccess

BLOCK = 1 << 22
LONGEST_NAME = 300
SOUNDS = (".wav", ".mp3", ".flac", ".ogg", ".opus", ".m4a", ".aac")
INPUTS = (*IMAGES, *VIDEOS, *LATENTS, *SOUNDS)
EMBEDDING = re.compile(r"embedding:\s*([^\s,:()]+)")
MEMORY = "file_digests.json"


class FileHashes:
    """Digests of file contents.

    memory: a JSON file that caches them across processes, by path, size and modification time;
    without it, or if it cannot be written, each process computes them anew.
    """

    def __init__(self, folders: FolderAccess, memory: Path | None = None):
        self.folders, self.memory = folders, memory
        self.known: dict[str, list] = _read(memory)

    def named_by(self, value: Any) -> list[str]:
        """The digests of all files that the value of an input may refer to: models of any kind,
        input files, embeddings in a prompt."""
        if not isinstance(value, str) or not value.strip():
            return []
        found = []
        for path in sorted(set(self._paths(value))):
            with suppress(OSError):  # The node that reads the file reports the error.
                found.append(self.of(path))
        return found

    def _paths(self, value: str) -> Iterator[Path]:
        for name in EMBEDDING.findall(value):
            yield from self._models(("embeddings",), name, ("", *WEIGHTS))
        if len(value) > LONGEST_NAME or "\n" in value:
            return
        yield from included_files(value)
        ending = Path(value.partition(" [")[0]).suffix.lower()
        kinds = MODEL_FOLDERS if ending in WEIGHTS else ("checkpoints",)
        yield from self._models(kinds, value, ("",))
        with suppress(ValueError, OSError):
            path = self.folders.input_path(value)
            if ending in INPUTS or path.is_dir() and path.name == Path(value).name:
                yield path

    def _models(self, kinds: Any, name: str, endings: tuple[str, ...]) -> Iterator[Path]:
        for kind in kinds:
            for ending in endings:
                with suppress(ValueError, OSError, KeyError):
                    yield self.folders.model_path(kind, f"{name}{ending}")

    def of(self, path: Path) -> str:
        """The digest of a file, or of the names and contents of all files in a folder."""
        if path.is_dir():
            inner = sorted(one for one in path.rglob("*") if one.is_file())
            text = "\n".join(f"{one.relative_to(path)} {self.of(one)}" for one in inner)
            return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        facts = path.stat()
        state, key = [facts.st_size, facts.st_mtime_ns], os.path.abspath(path)
        found = self.known.get(key)
        if found is None or found[:2] != state:
            found = self.known[key] = [*state, _content(path)]
            self._remember()
        return found[2]

    def _remember(self) -> None:
        if self.memory is None:
            return
        partial = self.memory.with_name(f"{self.memory.name}.{uuid4().hex[:8]}")
        try:
            self.memory.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(self.known), encoding="utf-8")
            os.replace(partial, self.memory)
        except OSError:
            with suppress(OSError):
                partial.unlink(missing_ok=True)


def _content(path: Path) -> str:
    hasher = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            hasher.update(block)
    return hasher.hexdigest()


def _read(memory: Path | None) -> dict[str, list]:
    try:
        found = json.loads(memory.read_text(encoding="utf-8")) if memory else {}
    except (OSError, ValueError, RecursionError):
        return {}
    good = found.items() if isinstance(found, dict) else ()
    return {key: one for key, one in good if isinstance(one, list) and len(one) == 3}
