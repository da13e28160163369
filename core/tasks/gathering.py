"""A long video as one tensor that is mapped into memory, not held in it."""

from __future__ import annotations

import mmap
import tempfile
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

HELD = 2**28
"""Bytes up to which a video is simply in memory."""


class Gathering:
    """Chunks of a video that follow one another along an axis.

    What exceeds `held` bytes goes into a file without a name in `folder`, which is gone as soon as
    nobody uses the tensor any more. Where nothing can be written, memory is used all the same.
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
        """Move what is in memory into the file, frame by frame; OSError leaves it in memory."""
        if self.file is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.file = tempfile.TemporaryFile(dir=self.folder)
        begun = self.file.tell()
        try:
            for chunk in self.chunks:
                first = chunk.detach().to("cpu").movedim(self.axis, 0).contiguous()
                self.file.write(first.reshape(-1).view(torch.uint8).numpy().data)
            self.file.flush()
        except OSError:
            self.file.seek(begun)
            raise
        self.frames += sum(one.shape[self.axis] for one in self.chunks)
        # The like of the chunks, without their frames.
        self.chunks = [self.chunks[-1].narrow(self.axis, 0, 0).clone()]

    @property
    def is_mapped(self) -> bool:
        return self.file is not None and self.frames > 0

    def __len__(self) -> int:
        """Frames so far."""
        return self.frames + sum(one.shape[self.axis] for one in self.chunks)

    def tensor(self) -> Tensor:
        """All chunks as one video; RuntimeError if there are none."""
        if not self.is_mapped:
            return torch.cat(self.chunks, dim=self.axis)
        self._spill()
        like = self.chunks[0].to("cpu").movedim(self.axis, 0)
        size = self.frames * like[:0].new_empty(1, *like.shape[1:]).nbytes
        mapped = mmap.mmap(self.file.fileno(), size, access=mmap.ACCESS_COPY)
        video = torch.frombuffer(mapped, dtype=like.dtype).reshape(self.frames, *like.shape[1:])
        video = video.movedim(0, self.axis)
        rest = [one.to("cpu") for one in self.chunks if one.shape[self.axis]]
        return torch.cat([video, *rest], dim=self.axis) if rest else video
