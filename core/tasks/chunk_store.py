"""Finished chunks on disk: a run that was killed continues with the chunk it was in.

A folder holds one safetensors file per chunk and `manifest.json`, which says what the chunks were
made with. A chunk counts once the manifest names it; both are written beside and moved into place,
so that whatever moment a run ends at, the folder is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

MANIFEST = "manifest.json"


class ChunkStoreError(ValueError):
    """A folder of chunks belongs to another run, or cannot be read or written; one sentence."""


class ChunkStore:
    """The finished chunks [b t c h w] of one run, in a folder of their own.

    settings: JSON values that decide what the run makes (seed, sizes, steps, hashes of weights).
    Opening a folder that was written with others raises ChunkStoreError and changes nothing.
    """

    def __init__(self, folder: str | os.PathLike, settings: Mapping[str, Any]):
        self.folder = Path(folder)
        self.settings = json.loads(json.dumps(dict(settings), sort_keys=True))
        self._lengths: list[int] = self._read_manifest()

    def __len__(self) -> int:
        """Finished chunks."""
        return len(self._lengths)

    @property
    def frames(self) -> int:
        """Finished frames."""
        return sum(self._lengths)

    @property
    def settings_hash(self) -> str:
        return settings_hash(self.settings)

    def append(self, chunk: Tensor) -> None:
        """Write one more chunk. If the disk is full, those before it stay as they are."""
        path = self._path(len(self))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(path.name + ".tmp")
            save_file({"chunk": chunk.detach().cpu().contiguous()}, temporary)
            os.replace(temporary, path)
            self._write_manifest([*self._lengths, chunk.shape[1]])
        except (OSError, SafetensorError) as error:
            size = chunk.numel() * chunk.element_size()
            raise ChunkStoreError(
                f"Chunk {len(self)} of {size} bytes could not be written to {self.folder}, "
                f"where {len(self)} chunks are finished: {error}."
            ) from error
        self._lengths.append(chunk.shape[1])

    def chunks(self) -> Iterator[Tensor]:
        """The finished chunks, read one at a time."""
        return (self._read(k) for k in range(len(self)))

    def done(self) -> Tensor | None:
        """All that is finished as one video, what tasks take as `done`; None if nothing is."""
        return torch.cat(list(self.chunks()), dim=1) if len(self) else None

    def extend(self, new: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield every chunk of `new` after it was written."""
        for chunk in new:
            self.append(chunk)
            yield chunk

    # ----------------------------------------------------------------------------------------------

    def _path(self, index: int) -> Path:
        return self.folder / f"chunk_{index:05d}.safetensors"

    def _read(self, index: int) -> Tensor:
        path = self._path(index)
        try:
            chunk = load_file(path)["chunk"]
        except (OSError, SafetensorError, KeyError) as error:
            raise ChunkStoreError(f"The finished chunk {path} cannot be read: {error}.") from error
        if chunk.ndim != 5 or chunk.shape[1] != self._lengths[index]:
            raise ChunkStoreError(
                f"The finished chunk {path} has shape {list(chunk.shape)}, but the manifest says "
                f"{self._lengths[index]} frames."
            )
        return chunk

    def _read_manifest(self) -> list[int]:
        path = self.folder / MANIFEST
        if not path.exists():
            return []
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            settings, lengths = manifest["settings"], [int(n) for n in manifest["frames"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ChunkStoreError(f"{path} is not a manifest of chunks: {error}.") from error
        self._check_settings(settings)
        return lengths

    def _check_settings(self, theirs: Mapping[str, Any]) -> None:
        for name in sorted({*theirs, *self.settings}):
            here, there = self.settings.get(name), theirs.get(name)
            if here != there:
                raise ChunkStoreError(
                    f"{self.folder} holds chunks made with {name} {there!r}, not {here!r}; "
                    "choose another folder or the same settings."
                )

    def _write_manifest(self, lengths: list[int]) -> None:
        manifest = {"hash": self.settings_hash, "settings": self.settings, "frames": lengths}
        temporary = self.folder / (MANIFEST + ".tmp")
        temporary.write_text(json.dumps(manifest, indent=1, sort_keys=True), encoding="utf-8")
        os.replace(temporary, self.folder / MANIFEST)


def settings_hash(settings: Mapping[str, Any]) -> str:
    """A short name for settings: the same JSON values give the same 16 digits."""
    text = json.dumps(dict(settings), sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
