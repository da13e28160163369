"""Chunk files: tensors with a digest of their values, complete if they have their final name."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .content import digest
from .kept_runs import PARTIAL

CONTENT, HALVED = "content", "halved"
State = tuple[Path, int, int, int]
_verified: set[State] = set()
"""Files with a verified digest, by inode, size and modification time, until they are read."""


def write_chunk(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a chunk file. If that raises OSError or SafetensorError, no file is left behind."""
    small = {name: _compact(one.detach().to("cpu")) for name, one in tensors.items()}
    halved = [name for name, one in small.items() if one.dtype is not tensors[name].dtype]
    metadata = {CONTENT: digest(small), HALVED: json.dumps(halved)}
    replaced(path, lambda at: save_file(small, at, metadata=metadata))


def is_whole(path: Path) -> bool:
    """Whether a chunk file holds what was written. If it does, the next read skips the digest of
    its values."""
    if read_chunk(path) is None:
        return False
    with suppress(OSError):
        _verified.add(_state(path))
    return True


def _state(path: Path) -> State:
    facts = path.stat()
    return path, facts.st_ino, facts.st_size, facts.st_mtime_ns


def read_chunk(path: Path) -> dict[str, Tensor] | None:
    """The tensors of a file, memory-mapped; None if it is missing or damaged. Counts as a use."""
    try:
        state = _state(path)
        with safe_open(path, framework="pt") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}
            metadata = file.metadata() or {}
        if state not in _verified and digest(found) != metadata.get(CONTENT):
            return None
        _verified.discard(state)
        # The digest does not cover this list; a damaged one raises here.
        found |= {name: found[name].float() for name in json.loads(metadata[HALVED])}
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return None
    with suppress(OSError):
        os.utime(path)
    return found


def _compact(x: Tensor) -> Tensor:
    """The values in half precision if it holds them exactly, as it does what was computed in it."""
    if x.dtype is torch.float32:
        half = x.half()
        if torch.equal(half.float(), x):
            return half.contiguous()
    return x.contiguous()


def replaced(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file under a temporary name, sync it, and rename it to `path`."""
    partial = path.with_name(f"{path.name}.{uuid4().hex[:8]}{PARTIAL}")
    try:
        write(partial)
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    # Some file systems cannot sync folders; the file is in place all the same.
    with suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
