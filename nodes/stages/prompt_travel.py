"""Prompt travel: prompts at frames, such as "0": "a cat", "16": "a dog", as overlapping segments.

    frames    8 or "8"; -1 is the last one; "0:8" are the frames 0 to 7; "8:" holds until the next
    fractions "0.5" or "50%" of the video, "1.0" is its last frame
    seconds   "1.5s"

Frames between two prompts get a mix of both, weighted by distance. Loads no torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from ...core.graph.messages import written

ENTRY = re.compile(
    r"""\s*(?:"([^"]*)"\s*:|([^\s="]+)\s*=)      # a place, in quotes or before an equals sign
        \s*"((?:[^"\\]|\\.)*)"\s*(,|$)           # a prompt in quotes""",
    re.DOTALL | re.VERBOSE,
)
NUMBER = re.compile(r"(-?\d{1,9}(?:\.\d{1,9})?)(s|%|)")
MOST_FRAMES = 100_000
"""Per segment; the maximum of the widgets for a number of frames."""


@dataclass(frozen=True, kw_only=True)
class Clock:
    """Converts positions and lengths to frames. frames: of the video, 0 if unknown; rate: frames
    per second."""

    frames: int = 0
    rate: float = 15.0

    def place(self, text: str) -> int:
        """The frame number of a position; ValueError if it is malformed or outside the video."""
        number, unit = self._number(text)
        if unit == "s":
            at = _rounded(number * self.rate)
        elif unit == "%" or "." in text:
            at = self._part(number / 100 if unit else number, text)
        else:
            at = int(number)
        if at < 0:
            at += self._known(f"the frame {text}, counted from the end,")
        if at < 0 or self.frames and at >= self.frames:
            raise ValueError(
                f"frame {text.strip()} does not lie in a video of {self.frames} frames"
            )
        return at

    def length(self, text: str, what: str) -> int:
        """The number of frames of a length such as "2s" or "25%"; ValueError if malformed."""
        number, unit = self._number(text) if NUMBER.fullmatch(text.strip()) else (0.0, "")
        if not unit or number < 0:
            raise ValueError(f'{what} must be a number of frames, "2s" or "25%", got {text!r}')
        if unit == "s":
            return _rounded(number * self.rate)
        return _rounded(number / 100 * self._known(f"the length {text}"))

    def _part(self, part: float, text: str) -> int:
        if not 0 <= part <= 1:
            raise ValueError(f"the part {text.strip()} of the video must lie in 0.0 .. 1.0")
        total = self._known(f"the part {text} of the video")
        return total - 1 if part == 1 else math.floor(part * total)

    def _known(self, what: str) -> int:
        if not self.frames:
            raise ValueError(f"{what} needs the length of the video: set frames")
        return self.frames

    def _number(self, text: str) -> tuple[float, str]:
        found = NUMBER.fullmatch(text.strip())
        if found is None:
            raise ValueError(f"{written(text)} is not a frame: write 8, -1, 0.5, 50% or 1.5s")
        return float(found[1]), found[2]


@dataclass(frozen=True)
class Plateau:
    """One prompt over the frames first .. last; if `held`, until the next one begins."""

    first: int
    last: int
    prompt: str
    held: bool = False


def is_travel(text: str) -> bool:
    """Whether a text looks like prompts at frames rather than a JSON list of segments."""
    return re.match(r'\s*(\{|"|[-\d.:s%]+\s*=)', text) is not None


def read_travel(text: str, clock: Clock) -> list[tuple[str, int, int]]:
    """(prompt, frames, overlap) of each segment; ValueError names what cannot be parsed."""
    found = sorted(_entries(text, clock), key=lambda one: one.first)
    if not found:
        raise ValueError('prompts at frames must be written as in "0": "a cat", "16": "a dog"')
    for one, after in zip(found, found[1:], strict=False):
        if after.first <= one.last:
            raise ValueError(f"frame {after.first} has 2 prompts")
    stop = clock.frames or max(one.last for one in found) + 1
    if stop > MOST_FRAMES:
        raise ValueError(f"a video must have 1 to {MOST_FRAMES} frames, not {stop}")
    return list(_segments(_joined(found), stop))


def _entries(text: str, clock: Clock) -> Iterator[Plateau]:
    rest = text.strip()
    if rest.startswith("{") and rest.endswith("}"):
        rest = rest[1:-1].strip()
    while rest:
        entry = ENTRY.match(rest)
        if entry is None:
            raise ValueError(
                f'prompts at frames must be written as in "0": "a cat", "16": "a dog", got '
                f"{written(rest)}"
            )
        rest = rest[entry.end() :]
        prompt = re.sub(r"\\(.)", _unescaped, entry[3], flags=re.DOTALL)
        yield _plateau(entry[1] if entry[1] is not None else entry[2], prompt, clock)


def _plateau(places: str, prompt: str, clock: Clock) -> Plateau:
    begin, colon, end = (one.strip() for one in places.partition(":"))
    first = clock.place(begin)
    if not end:
        return Plateau(first, first, prompt, held=bool(colon))
    # The end of a range is exclusive, so it may be the length of the video.
    last = clock.frames - 1 if clock.frames and end == str(clock.frames) else clock.place(end) - 1
    if last < first:
        raise ValueError(f"the range {places} has 0 frames")
    return Plateau(first, last, prompt)


def _joined(found: list[Plateau]) -> list[Plateau]:
    """Extend held prompts to the next one, and merge neighbours with the same prompt."""
    joined: list[Plateau] = []
    for k, one in enumerate(found):
        last = found[k + 1].first - 1 if one.held and k + 1 < len(found) else one.last
        if joined and joined[-1].prompt == one.prompt:
            joined[-1] = Plateau(joined[-1].first, last, one.prompt)
        else:
            joined.append(Plateau(one.first, last, one.prompt))
    return joined


def _segments(found: list[Plateau], stop: int) -> Iterator[tuple[str, int, int]]:
    """Each segment extends to its neighbours' plateaus, so that the linear fade over an overlap is
    that from the end of one plateau to the start of the next."""
    for k, one in enumerate(found):
        start = found[k - 1].last + 1 if k else 0
        end = found[k + 1].first if k + 1 < len(found) else stop
        yield one.prompt, end - start, one.first - start if k else 0


def _unescaped(match: re.Match) -> str:
    return {"n": "\n", "t": "\t"}.get(match[1], match[1])


def _rounded(value: float) -> int:
    """Rounded half up, as in the browser."""
    return math.floor(value + 0.5)
