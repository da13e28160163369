"""Display times of the frames of a file."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import ceil, floor

FINE = 3  # ticks of the shortest frame from which on times count as rounded


@dataclass(frozen=True)
class Timing:
    """Start of each frame and end of the last, in ticks from 0; `unit` is the seconds per tick."""

    ticks: Sequence[int]
    unit: Fraction

    @classmethod
    def regular(cls, frames: int, frame_rate: Fraction) -> Timing:
        """Frames of equal duration."""
        return cls(range(frames + 1), 1 / frame_rate)

    @classmethod
    def of_clock(cls, times: Sequence[int], last: int, unit: Fraction) -> Timing:
        """From increasing time stamps and the duration of the last frame, in units."""
        return cls([*(time - times[0] for time in times), times[-1] - times[0] + last], unit)

    @property
    def frames(self) -> int:
        return len(self.ticks) - 1

    @property
    def seconds(self) -> Fraction:
        """Total duration."""
        return self.at(self.frames)

    def at(self, index: int) -> Fraction:
        """The time in seconds at which frame `index` starts; for `frames`, the end."""
        return self.ticks[index] * self.unit

    def shown(self, second: Fraction) -> int:
        """The index of the frame shown at a time in seconds after the first one's start."""
        reading = floor(second / self.unit + self._rounding)
        return min(bisect_right(self.ticks, reading), self.frames) - 1

    def before(self, second: Fraction) -> int:
        """The number of frames that start before a time in seconds."""
        reading = ceil(second / self.unit - self._rounding)
        return bisect_left(self.ticks, reading, 0, self.frames)

    @cached_property
    def _rounding(self) -> Fraction:
        """The error of the times in ticks: 1/2, since they are rounded to a clock, but 0 if the
        clock ticks at about the frame rate."""
        is_clock = not isinstance(self.ticks, range) and min(self._lasts) >= FINE
        return Fraction(1, 2) if is_clock else Fraction(0)

    @property
    def _lasts(self) -> list[int]:
        return [end - begin for begin, end in zip(self.ticks, self.ticks[1:], strict=False)]

    def is_regular(self, frame_rate: Fraction) -> bool:
        """Whether every frame is less than half a frame off its time at a constant rate."""
        return self._worst(frame_rate) < Fraction(1, 2)

    def _worst(self, frame_rate: Fraction) -> Fraction:
        if isinstance(self.ticks, range):
            return Fraction(0)
        pace = frame_rate * self.unit
        numerator, denominator = pace.numerator, pace.denominator
        worst = max(abs(tick * numerator - index * denominator)
                    for index, tick in enumerate(self.ticks[:-1]))  # fmt: skip
        return Fraction(worst, denominator)

    @cached_property
    def spread(self) -> tuple[Fraction, Fraction]:
        """Durations of the shortest and the longest frame in seconds."""
        return min(self._lasts) * self.unit, max(self._lasts) * self.unit
