"""Numbers in prompts that change over the frames, in backticks: (a red circle:`0.2, 1.4`).

    numbers  `0.2, 1.4` or more, spread evenly from the first frame of the video to the last; as
             many as there are frames set one per frame
    points   `0: 0.2, 16: 1.4`, numbers at frames, in the notation of :mod:`.prompt_travel`

Values in between are interpolated linearly. Loads no torch.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from ...core.graph.messages import written
from .prompt_travel import Clock

TICK = "`"
NUMBER = re.compile(r"[+-]?(\d{1,9}(\.\d{0,9})?|\.\d{1,9})")
DECIMALS = 2
"""Of numbers written into prompts: finer steps make no visible difference."""


@dataclass(frozen=True)
class Values:
    """A piecewise linear function of the frame, constant beyond its first and last place."""

    places: tuple[float, ...]
    numbers: tuple[float, ...]

    def at(self, frame: int) -> float:
        after = bisect_right(self.places, frame)
        if after in (0, len(self.places)):
            return self.numbers[min(after, len(self.places) - 1)]
        (x0, x1), (y0, y1) = (one[after - 1 : after + 1] for one in (self.places, self.numbers))
        return y0 + (y1 - y0) * (frame - x0) / (x1 - x0)


@dataclass(frozen=True)
class Template:
    """A prompt in pieces: texts, with values between them."""

    texts: tuple[str, ...]
    values: tuple[Values, ...]

    def at(self, frame: int) -> str:
        """The prompt of a frame of the video."""
        numbers = [_number(one.at(frame)) for one in self.values]
        pieces = zip(self.texts, [*numbers, ""], strict=True)
        return "".join(text + number for text, number in pieces)

    def parts(self, start: int, stop: int) -> Iterator[tuple[str, int, int]]:
        """Yield (prompt, start, stop) of each run of equal prompts in the frames start .. stop - 1;
        the stops are exclusive."""
        if not self.values:
            yield self.texts[0], start, stop
            return
        begun, prompt = start, self.at(start)
        for frame in range(start + 1, stop + 1):
            new = self.at(frame) if frame < stop else None
            if new != prompt:
                yield prompt, begun, frame
                begun, prompt = frame, new


def read_template(prompt: str, clock: Clock) -> Template:
    """Split a prompt for a video of `clock.frames` frames; ValueError names what in backticks
    cannot be parsed."""
    pieces = prompt.split(TICK)
    if len(pieces) % 2 == 0:
        raise ValueError(f"the prompt {written(prompt)} has a backtick without a second one")
    return Template(tuple(pieces[::2]), tuple(_values(one, clock) for one in pieces[1::2]))


def _values(text: str, clock: Clock) -> Values:
    listed = [one.strip() for one in text.split(",") if one.strip()]
    if not listed:
        raise ValueError("0 numbers stand between two backticks of a prompt, at least 1 is needed")
    if not any(":" in one for one in listed):
        step = (clock.frames - 1) / max(len(listed) - 1, 1)
        places = tuple(k * step for k in range(len(listed)))
        return Values(places, tuple(_read(one, text) for one in listed))
    points: dict[float, float] = {}
    for one in listed:
        place, colon, number = one.partition(":")
        if not colon:
            raise ValueError(f"`{text}`: {written(one)} stands at no frame, as in 16: {one}")
        at = clock.place(place)
        if at in points:
            raise ValueError(f"`{text}`: frame {at} has 2 numbers")
        points[at] = _read(number.strip(), text)
    places = sorted(points)
    return Values(tuple(places), tuple(points[place] for place in places))


def _read(number: str, text: str) -> float:
    if not NUMBER.fullmatch(number):
        raise ValueError(
            f"`{text}`: {written(number)} is not a number; write `0.5, 1.2` or `0: 0.5, 16: 1.2`"
        )
    return float(number)


def _number(value: float) -> str:
    text = f"{value:.{DECIMALS}f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text
