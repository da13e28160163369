"""Plays videos forwards and then backwards, with the frames stored on disk, not in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from .info import AudioClip

CHUNK = 8  # frames read back at a time
WHITE = 65535


def back_and_forth(chunks: Iterator[Tensor], folder: Path | None = None) -> Iterator[Tensor]:
    """Yield chunks `t c h w` in [-1, 1], then their frames backwards without the first and last.

    Frames are stored in 16 bits in an unnamed file in `folder` (by default the system's temporary
    one); OSError if it cannot be written.
    """
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        frames, shape = 0, ()
        for chunk in chunks:
            shape = tuple(chunk.shape[1:])
            for frame in chunk:
                file.write(_packed(frame))
            frames += len(chunk)
            yield chunk
            del chunk  # free it before the next one is generated
        for stop in range(frames - 1, 1, -CHUNK):
            yield _read(file, max(1, stop - CHUNK), stop, shape).flip(0)


def mirrored(sound: AudioClip, frames: int, seconds: float) -> AudioClip:
    """The sound of a video of `frames` frames and `seconds`, mirrored like its frames."""
    waveform, rate = sound
    begin, end, length = (
        round(n * seconds / frames * rate) for n in (1, frames - 1, 2 * frames - 2)
    )
    both = torch.cat([waveform, waveform[:, begin:end].flip(1)], dim=1)[:, :length]
    missing = length - both.shape[1]
    return AudioClip(torch.nn.functional.pad(both, (0, missing)), rate)


def _packed(frame: Tensor) -> bytes:
    values = frame.detach().to("cpu", torch.float32).add(1).mul_(WHITE / 2).round_()
    return values.clamp_(0, WHITE).numpy().astype(np.uint16).tobytes()


def _read(file: BinaryIO, start: int, stop: int, shape: tuple[int, ...]) -> Tensor:
    size = 2 * int(np.prod(shape))
    file.seek(start * size)
    values = np.frombuffer(file.read((stop - start) * size), np.uint16)
    pixels = torch.from_numpy(values.astype(np.float32)).mul_(2 / WHITE).sub_(1)
    return pixels.reshape(-1, *shape)
