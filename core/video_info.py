"""What is known of a clip without its pixels: size, length, frame rate; and how faults read."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from torch import Tensor


@dataclass(frozen=True)
class VideoInfo:
    """What a clip is: its place, the exact frame count, the size as shown, frames per second."""

    path: Path
    frames: int
    width: int
    height: int
    frame_rate: Fraction

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
        rate = ntsc if is_ntsc else Fraction(rate).limit_denominator(1000)
    rate = Fraction(rate)
    if not 0 < rate < 100_000:
        raise ValueError(f"frame rate {rate} must be between 0 and 100000 frames per second")
    return rate


def fault_reason(fault: BaseException) -> str:
    """Put a library's fault into words that fit behind a colon, in the middle of a sentence."""
    text = getattr(fault, "strerror", None) or str(fault) or type(fault).__name__
    return text[:1].lower() + text[1:].rstrip(".")
