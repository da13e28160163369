"""When the pictures of a file are shown."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import ceil, floor

FINE = 3  # ticks of the shortest picture


@dataclass(frozen=True)
class Timing:
    """Clock readings of each picture and of the end, the first is 0; the unit in seconds."""

    ticks: Sequence[int]
    unit: Fraction

    @classmethod
    def regular(cls, frames: int, frame_rate: Fraction) -> Timing:
        """Every picture as long as any other."""
        return cls(range(frames + 1), 1 / frame_rate)

    @classmethod
    def of_clock(cls, times: Sequence[int], last: int, unit: Fraction) -> Timing:
        """From rising clock readings and the duration of the last picture."""
        return cls([*(time - times[0] for time in times), times[-1] - times[0] + last], unit)

    @property
    def frames(self) -> int:
        return len(self.ticks) - 1

    @property
    def seconds(self) -> Fraction:
        """Of all pictures together."""
        return self.at(self.frames)

    def at(self, index: int) -> Fraction:
        """The second at which a picture is first shown; that of the end for the one after all."""
        return self.ticks[index] * self.unit

    def shown(self, second: Fraction) -> int:
        """The picture that is shown at a time from the first one on."""
        reading = floor(second / self.unit + self._rounding)
        return min(bisect_right(self.ticks, reading), self.frames) - 1

    def before(self, second: Fraction) -> int:
        """How many pictures begin before a time."""
        reading = ceil(second / self.unit - self._rounding)
        return bisect_left(self.ticks, reading, 0, self.frames)

    @cached_property
    def _rounding(self) -> Fraction:
        """How many ticks a picture may be off its true time: readings of a clock are rounded, but
        not where it ticks with the pictures."""
        is_clock = not isinstance(self.ticks, range) and min(self._lasts) >= FINE
        return Fraction(1, 2) if is_clock else Fraction(0)

    @property
    def _lasts(self) -> list[int]:
        return [end - begin for begin, end in zip(self.ticks, self.ticks[1:], strict=False)]

    def is_regular(self, frame_rate: Fraction) -> bool:
        """Whether no picture is off its place at a constant rate by half a picture or more."""
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
        """Seconds of the shortest and of the longest picture."""
        return min(self._lasts) * self.unit, max(self._lasts) * self.unit
