"""Small videos from whose pixels and sound the frame number and the time can be read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from videoldm.core.media.files import encoding_of, read_frames

RATE = 16_000


def marked(numbers, height: int = 32, width: int = 48) -> torch.Tensor:
    """Frames [t 3 h w] in [-1, 1] whose brightness encodes their number modulo 32."""
    levels = torch.tensor([30 + 6 * (n % 32) for n in numbers], dtype=torch.float32)
    return (levels / 127.5 - 1).reshape(-1, 1, 1, 1).expand(-1, 3, height, width).contiguous()


def numbers_of(frames: torch.Tensor) -> list[int]:
    """The numbers encoded by `marked`, of frames [t c h w] in [-1, 1]."""
    levels = frames[:, :3].mean(dim=(1, 2, 3)).add(1).mul(127.5)
    return [round((float(level) - 30) / 6) for level in levels]


def noise(count: int, size: int = 96, seed: int = 0) -> torch.Tensor:
    """Frames [t 3 size size] in [-1, 1] that compress badly."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, size, size, generator=generator) * 2 - 1


def path_for(folder: Path, format: str, name: str = "clip") -> Path:
    return folder / f"{name}{encoding_of(format).suffix}"


def all_frames(path: Path, **request) -> torch.Tensor:
    return torch.cat(list(read_frames(path, **request)))


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Limit the size of any file of this process to `size` bytes, which acts like a full disk."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def ramp(seconds: float, rate: int = RATE) -> torch.Tensor:
    """Sound [1, samples] that rises by 0.1 per second, so that its level encodes the time."""
    return (torch.arange(round(seconds * rate)) / rate / 10)[None]


def time_of(sample) -> float:
    """The time in seconds of a sample of `ramp`."""
    return float(sample) * 10


def timed_file(path: Path, times_ms: list[int], last_ms: int, *, sound: bool = True) -> Path:
    """Write an mp4 or mkv whose n-th frame is shown at times_ms[n], the last one for last_ms
    milliseconds, with a lossless `ramp` as sound."""
    seconds = (times_ms[-1] + last_ms) / 1000
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=1000, options={"crf": "4", "bf": "2"})
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        audio = file.add_stream("flac", rate=RATE, layout="mono") if sound else None
        if audio is not None:
            audio.codec_context.format = "s16"
        frames = marked(range(len(times_ms))).add(1).mul(127.5).round().byte()
        packets = []
        for time, frame in zip(times_ms, frames, strict=True):
            picture = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(frame.permute(1, 2, 0).numpy()), format="rgb24"
            )
            picture.pts, picture.time_base = time, Fraction(1, 1000)
            packets += stream.encode(picture)
        packets += stream.encode(None)
        ends = sorted({*times_ms[1:], times_ms[-1] + last_ms})
        for packet in packets:
            packet.duration = next(end for end in ends if end > packet.pts) - packet.pts
            file.mux(packet)
        if audio is not None:
            samples = (ramp(seconds) * 32767).round().short().numpy()
            block = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            block.sample_rate, block.pts = RATE, 0
            file.mux(audio.encode(block))
            file.mux(audio.encode(None))
    return path
