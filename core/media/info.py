"""What is known of a video without its pixels: kind, size, length, frame rate; and how faults read.

Files come from anywhere. What is no regular file is refused before it is opened, because reading a
named pipe may never end; sizes that a header claims are checked before anything is decoded.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from .timing import Timing

MAX_PIXELS = 2**26  # of a still or an animation's picture, 8192 x 8192
MAX_VIDEO_PIXELS = 2**25  # of a video's picture, 8192 x 4096: decoders hold many of them
# A small file may claim a huge picture, and a few kilobytes then cost gigabytes. Below the first
# number any file may; above it there must be a byte for every so many pixels.
UNSUSPECTED_PIXELS, PIXELS_PER_BYTE = 2**24, 250


@dataclass(frozen=True)
class VideoInfo:
    """What a video is: its place, the exact frame count, the size as shown, frames per second on
    average, and when each frame is shown (None: all as long)."""

    path: Path
    frames: int
    width: int
    height: int
    frame_rate: Fraction
    timing: Timing | None = field(default=None, compare=False, repr=False)

    @property
    def seconds(self) -> float:
        return float(self.frames / self.frame_rate)


class AudioClip(NamedTuple):
    """Sound: waveform float32 `channels samples` in [-1, 1] and samples per second."""

    waveform: Tensor
    sample_rate: int


def exact_frame_rate(rate: Fraction | float | int) -> Fraction:
    """Turn frames per second into a fraction; 23.976 and its kin become n * 1000 / 1001."""
    if isinstance(rate, float):
        if not 0 < rate < 100_000:  # also catches NaN
            raise ValueError(f"frame rate {rate} must be between 0 and 100000 frames per second")
        ntsc = Fraction(round(rate * 1.001) * 1000, 1001)
        is_ntsc = abs(float(ntsc) - rate) < 1e-3
        rate = ntsc if is_ntsc else _simplest(rate)
    rate = Fraction(rate)
    if not 0 < rate < 100_000:
        raise ValueError(f"frame rate {rate} must be between 0 and 100000 frames per second")
    return rate


def _simplest(rate: float) -> Fraction:
    """30000/7007, as every seventh frame has it, is recognised in a float; noise in it is not."""
    exact = Fraction(rate).limit_denominator(10_010)
    is_exact = abs(exact - Fraction(rate)) < Fraction(rate) / 10**12
    return exact if is_exact else Fraction(rate).limit_denominator(1000)


def kind_of(path: Path) -> str:
    """Tell "folder", "image" and "container" apart by the first bytes, not by the name.

    Raises FileNotFoundError when there is nothing, ValueError for pipes, sockets and devices and
    for files that may not be read.
    """
    if path.is_dir():
        return "folder"
    check_regular(path)
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError as fault:
        raise ValueError(f"{path} cannot be read: {fault_reason(fault)}") from fault
    is_webp = head[:4] == b"RIFF" and head[8:] == b"WEBP"
    is_image = is_webp or head[:4] == b"GIF8" or head[:8] == b"\x89PNG\r\n\x1a\n"
    return "image" if is_image else "container"


def check_regular(path: Path) -> None:
    """Raise FileNotFoundError or ValueError unless `path` is a regular file or a link to one."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise FileNotFoundError(f"no video file at {path}") from None
    except (OSError, ValueError) as fault:
        raise ValueError(f"{path} cannot be read: {fault_reason(fault)}") from fault
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}
        raise ValueError(f"{path} is {kinds.get(stat.S_IFMT(mode), 'a device')}, not a file")


class SizeFault(ValueError):
    """A picture that is too large to be read; the sentence begins with its file."""


def check_picture_size(path: Path, width: int, height: int, most: int = MAX_PIXELS) -> None:
    """Raise SizeFault for a picture that is too large, or for what its file can hold."""
    pixels = width * height
    if pixels > most:
        raise SizeFault(
            f"{path} is {width}x{height}, {pixels / 1e6:.0f} million pixels, but at most "
            f"{most / 1e6:.0f} million are read"
        )
    size = path.stat().st_size
    if pixels > max(UNSUSPECTED_PIXELS, PIXELS_PER_BYTE * size):
        raise SizeFault(
            f"{path} claims to be {width}x{height} in a file of {size} bytes; a picture of more "
            f"than {UNSUSPECTED_PIXELS / 1e6:.0f} million pixels needs at least "
            f"{pixels // PIXELS_PER_BYTE}"
        )


def fault_reason(fault: BaseException) -> str:
    """Put a library's fault into words that fit behind a colon, in the middle of a sentence."""
    if isinstance(fault, (LookupError, TypeError, AttributeError)):  # In Python's words.
        return "its parts do not fit together"
    text = getattr(fault, "strerror", None) or str(fault).strip() or type(fault).__name__
    return text[:1].lower() + text[1:].rstrip(".")
