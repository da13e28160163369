"""A video's properties without its pixels: kind, size, length, frame rate; and error messages.

Files are untrusted. Anything but a regular file is refused before it is opened, because reading a
named pipe may block forever; the size in a header is checked before anything is decoded.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from .timing import Timing

MAX_PIXELS = 2**26  # of a still or an animation's frame, 8192 x 8192
MAX_VIDEO_PIXELS = 2**25  # of a video's frame, 8192 x 4096: decoders hold many of them
# A few kilobytes can claim a huge picture and cost gigabytes. Above this number of pixels, a file
# must have at least one byte per PIXELS_PER_BYTE.
UNSUSPECTED_PIXELS, PIXELS_PER_BYTE = 2**24, 250


@dataclass(frozen=True)
class VideoInfo:
    """A video's path, exact frame count, display size, average frame rate in frames per second, and
    when each frame is shown (None: all have equal durations)."""

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
    """Sound: waveform float32 `channels samples` in [-1, 1], and samples per second."""

    waveform: Tensor
    sample_rate: int


def exact_frame_rate(rate: Fraction | float | int) -> Fraction:
    """Convert frames per second to a fraction; NTSC rates such as 23.976 become n * 1000 / 1001.

    Raises ValueError unless it is between 0 and 100000, exclusive.
    """
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
    """An exact fraction such as 30000/7007 (a stride of 7 in NTSC) if the float is one to within
    rounding, else the nearest with a denominator up to 1000."""
    exact = Fraction(rate).limit_denominator(10_010)
    is_exact = abs(exact - Fraction(rate)) < Fraction(rate) / 10**12
    return exact if is_exact else Fraction(rate).limit_denominator(1000)


def kind_of(path: Path) -> str:
    """Return "folder", "image" or "container", detected from the first bytes, not from the name.

    Raises FileNotFoundError if nothing is there, ValueError for pipes, sockets, devices and
    unreadable files.
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
    """A picture is too large to be read; the message begins with its file."""


def check_picture_size(path: Path, width: int, height: int, most: int = MAX_PIXELS) -> None:
    """Raise SizeFault for a picture that is too large, absolutely or for the size of its file."""
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
    """Phrase a library's error to follow a colon within a sentence."""
    if isinstance(fault, (LookupError, TypeError, AttributeError)):  # No use to a user.
        return "its parts do not fit together"
    text = getattr(fault, "strerror", None) or str(fault).strip() or type(fault).__name__
    return text[:1].lower() + text[1:].rstrip(".")
