"""A long video as one tensor that is memory-mapped, not held in memory."""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO
from weakref import WeakValueDictionary

import torch
from torch import Tensor

HELD = 2**23
"""Bytes up to which a video is simply held in memory: 128 latent frames of 512x512 in float32."""

_mapped: WeakValueDictionary[int, mmap.mmap] = WeakValueDictionary()
"""The mappings that tensors lie in, by the address of their storage."""


class Gathering:
    """Collects consecutive chunks of a video along an axis.

    What exceeds `held` bytes goes to an unnamed temporary file in `folder`, which is freed with the
    last tensor over it. If the folder cannot be written to, memory is used all the same.
    """

    def __init__(self, folder: Path, *, axis: int = 1, held: int = HELD):
        self.folder, self.axis, self.held = folder, axis, held
        self.chunks: list[Tensor] = []
        self.file: BinaryIO | None = None
        self.frames = 0  # of those in the file
        self.can_write = True

    def add(self, chunk: Tensor) -> None:
        self.chunks.append(chunk)
        if sum(one.nbytes for one in self.chunks) > self.held:
            self._spill()

    def _spill(self) -> None:
        try:
            if self.can_write:
                self._write()
        except OSError:
            self.can_write = False

    def _write(self) -> None:
        """Move what is in memory to the file, frame by frame; on OSError it stays in memory."""
        if self.file is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.file = tempfile.TemporaryFile(dir=self.folder)
        position = self.file.tell()
        try:
            for chunk in self.chunks:
                first = chunk.detach().to("cpu").movedim(self.axis, 0).contiguous()
                self.file.write(first.reshape(-1).view(torch.uint8).numpy().data)
            self.file.flush()
        except OSError:
            self.file.seek(position)
            raise
        self.frames += sum(one.shape[self.axis] for one in self.chunks)
        # An empty chunk keeps the shape and dtype of the rest.
        self.chunks = [self.chunks[-1].narrow(self.axis, 0, 0).clone()]

    @property
    def is_mapped(self) -> bool:
        return self.file is not None and self.frames > 0

    def __len__(self) -> int:
        """Frames so far."""
        return self.frames + sum(one.shape[self.axis] for one in self.chunks)

    def tensor(self) -> Tensor:
        """All chunks as one video; RuntimeError if there are none. A mapped video is shared: writes
        to it are seen by every holder."""
        if not self.is_mapped:
            return torch.cat(self.chunks, dim=self.axis)
        self._spill()
        like = self.chunks[0].to("cpu").movedim(self.axis, 0)
        shape = self.frames, *like.shape[1:]
        video = _tensor_over(self.file, shape, like.dtype).movedim(0, self.axis)
        rest = [one.to("cpu") for one in self.chunks if one.shape[self.axis]]
        return torch.cat([video, *rest], dim=self.axis) if rest else video


def is_mapped(x: Any) -> bool:
    """Whether x is a tensor in the file of a `Gathering`, or a view of one."""
    plain = isinstance(x, Tensor) and x.layout is torch.strided and not x.is_nested
    if not plain or x.device.type != "cpu":
        return False
    return x.untyped_storage().data_ptr() in _mapped


def in_parts(x: Tensor, size: int, *, axis: int) -> Iterator[Tensor]:
    """Views of up to `size` frames each. After each one, pages of a mapped video are dropped from
    memory; they remain in the file."""
    for part in x.split(size, dim=axis):
        yield part
        _drop_pages(x)


def _drop_pages(x: Tensor) -> None:
    mapping = _mapped.get(x.untyped_storage().data_ptr()) if is_mapped(x) else None
    if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
        # The mapping is shared with the page cache, so no value is lost, written or read.
        mapping.madvise(mmap.MADV_DONTNEED)


def _tensor_over(file: BinaryIO, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    size = torch.empty(shape, dtype=dtype, device="meta").nbytes
    mapping = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_WRITE)
    video = torch.frombuffer(mapping, dtype=dtype).reshape(shape)
    _mapped[video.untyped_storage().data_ptr()] = mapping
    return video
