"""Parse texts typed into nodes: segments, boxes, frames, strengths, curves. Loads no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...core.graph.messages import written
from ...core.networks.sites import check_site
from .prompt_travel import MOST_FRAMES, Clock, is_travel, read_travel
from .prompt_values import read_template

# --------------------------------------------------------------------------------------------------
# Segments.


@dataclass(frozen=True)
class Segment:
    """A part of a video with its own prompt, which fades in over its first `overlap` frames."""

    prompt: str
    frames: int
    overlap: int = 0
    seed: int | None = None


def read_segments(text: str, clock: Clock = Clock()) -> list[Segment]:  # noqa: B008 (frozen)
    """Parse segments from JSON, or from prompts at frames (see :mod:`.prompt_travel`); ValueError
    names the segment and the error."""
    if is_travel(text):
        return _with_values([Segment(*one) for one in read_travel(text, clock)], clock)
    segments = [_segment(k, one, clock) for k, one in enumerate(_json_list(text, "segments"))]
    for k, one in enumerate(segments):
        if not 1 <= one.frames <= MOST_FRAMES:
            raise ValueError(
                f"segment {k + 1} must have 1 to {MOST_FRAMES} frames, not {one.frames}"
            )
        shortest = min(one.frames, segments[k - 1].frames if k else one.frames)
        if not 0 <= one.overlap < shortest:
            raise ValueError(
                f"segment {k + 1}: overlap {one.overlap} must be from 0 to less than the "
                f"{shortest} frames of the shorter segment beside it"
            )
    return _with_values(segments, clock)


def placed(segments: Sequence[Segment]) -> Iterator[tuple[Segment, int, int]]:
    """Yield (segment, start, stop), the frames of a segment being start .. stop - 1."""
    stop = 0
    for one in segments:
        start = stop - one.overlap
        stop = start + one.frames
        yield one, start, stop


def length_of(segments: Sequence[Segment]) -> int:
    """The total number of frames; overlaps count once."""
    return sum(one.frames - one.overlap for one in segments)


def _with_values(segments: list[Segment], clock: Clock) -> list[Segment]:
    """The same segments; ValueError if the numbers in backticks of a prompt cannot be parsed."""
    clock = replace(clock, frames=clock.frames or length_of(segments))
    for one in segments:
        read_template(one.prompt, clock)
    return segments


def _segment(index: int, given: Any, clock: Clock) -> Segment:
    what = f"segment {index + 1}"
    if isinstance(given, dict):
        texts = [name for name in ("frames", "overlap") if isinstance(given.get(name), str)]
        lengths = {name: clock.length(given[name], f"{what}: {name}") for name in texts}
        given = {**given, **lengths}
    known = {"prompt": str, "frames": int, "overlap": int, "seed": int}
    fields = _fields(given, known, required=("prompt", "frames"), what=what)
    if index == 0:
        fields["overlap"] = 0
    return Segment(**fields)


# --------------------------------------------------------------------------------------------------
# Bounding boxes.


@dataclass(frozen=True)
class BoundingBox:
    """An object's label and corners, as fractions of the image; (0, 0) is the top left."""

    label: str
    x0: float
    y0: float
    x1: float
    y1: float


def read_boxes(text: str) -> list[BoundingBox]:
    """Parse boxes from JSON; ValueError names the box and the error."""
    known = {"label": str, "x0": float, "y0": float, "x1": float, "y1": float}
    boxes = [
        BoundingBox(**_fields(one, known, required=tuple(known), what=f"box {k + 1}"))
        for k, one in enumerate(_json_list(text, "boxes", empty=True))
    ]
    for k, box in enumerate(boxes):
        if not (0 <= box.x0 < box.x1 <= 1 and 0 <= box.y0 < box.y1 <= 1):
            raise ValueError(
                f"box {k + 1}: the corners ({box.x0}, {box.y0}) and ({box.x1}, {box.y1}) must be "
                "in order and lie in 0 .. 1"
            )
    return boxes


# --------------------------------------------------------------------------------------------------
# Frames.


def read_positions(text: str, frames: int | None = None) -> list[int]:
    """Parse frame numbers such as "0, 16, -1". Negative ones count from the end of a video of
    `frames` frames, and stay negative if that is None.

    Raises ValueError for what is not a whole number, outside the video or a duplicate.
    """
    found: list[int] = []
    for part in _listed(text):
        if not part.removeprefix("-").isdecimal() or len(part) > 9:
            raise ValueError(f"the frame {written(part)} must be a whole number, as in 0, 16, -1")
        at = int(part)
        if frames is not None and not -frames <= at < frames:
            raise ValueError(f"frame {at} does not lie in a video of {frames} frames")
        at += frames if frames is not None and at < 0 else 0
        if at in found:
            raise ValueError(f"frame {at} is named twice, for 2 frames of context")
        found.append(at)
    return found


def read_frames(text: str) -> tuple[range, ...]:
    """Parse ranges of frames such as "0, 8-11", or "all"; ValueError for anything else."""
    if text.strip().lower() == "all":
        return (range(MOST_FRAMES),)
    found = []
    for part in filter(None, (one.strip() for one in text.replace("\n", ",").split(","))):
        first, _, last = (one.strip() for one in part.partition("-"))
        ends = (first, last) if "-" in part else (first, first)
        if not all(end.isdecimal() and len(end) < 10 for end in ends):
            raise ValueError(
                f"the frames {written(part)} must be a number or a range, as in 0, 8-11, or all"
            )
        first, last = (int(end) for end in ends)
        if last < first:
            raise ValueError(f"the frames {written(part)} end before they begin")
        found.append(range(first, last + 1))
    return tuple(found)


def absolute_frames(text: str) -> list[int]:
    """Parse frame numbers of which none is negative; ValueError if there are none at all."""
    found = read_positions(text)
    negative = [at for at in found if at < 0]
    if negative:
        raise ValueError(
            f"the frame {negative[0]} counts from the end, but the length of the video is not "
            "known here: write its number"
        )
    if not found:
        raise ValueError("0 frames are named, at least 1 is needed, as in 0, 15")
    return found


# --------------------------------------------------------------------------------------------------
# Strengths.


def read_sites(text: str) -> dict[str, float]:
    """Parse strengths by site, or by prefix of sites, such as "down.0 = 0.5, mid = 0"."""
    found: dict[str, float] = {}
    for part in _listed(text):
        name, equals, value = (one.strip() for one in part.partition("="))
        if not equals or not _is_number(value):
            raise ValueError(f"the strength {written(part)} must be written as in down.0=0.5")
        found[_site_prefix(name)] = float(value)
    return found


def read_places(text: str) -> list[str]:
    """Parse sites, or prefixes of sites, such as "mid, up.1"."""
    for part in (found := _listed(text)):
        if part.endswith((".keys", ".queries")):
            raise ValueError(
                f"the site {written(part)} names a part of attention: connect the curve to the "
                "input keys or queries of Inject Temporal Layers, and leave that part out here"
            )
    return [_site_prefix(part) for part in found]


def _listed(text: str) -> list[str]:
    """The non-empty parts of a text separated by commas and newlines."""
    return [part for one in text.replace("\n", ",").split(",") if (part := one.strip())]


def _site_prefix(name: str) -> str:
    """Check a site or a prefix of sites such as "mid" or "down.0", and return it."""
    for part in (".keys", ".queries"):
        if name.endswith(part):
            return _site_prefix(name.removesuffix(part)) + part
    head, *rest = name.split(".")
    if head in ("down", "up", "mid") and all(one.isdigit() for one in rest) and len(rest) < 2:
        return name
    return check_site(name)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


# --------------------------------------------------------------------------------------------------
# Curves.


def read_points(text: str, over: str) -> tuple[tuple[float, float], ...]:
    """Parse the points of a curve from JSON such as [[0, 1], [15, 0.5]], and sort them by x;
    ValueError names the point and the error."""
    points = [_point(k + 1, one, over) for k, one in enumerate(_json_list(text, "points"))]
    points.sort(key=lambda point: point[0])
    for (x, _), (third, _) in zip(points, points[2:], strict=False):
        if x == third:
            raise ValueError(
                f"more than 2 points stand at {x:g}: one is the value there, a second the value "
                "behind it"
            )
    return tuple(points)


def _point(number: int, given: Any, over: str) -> tuple[float, float]:
    if not isinstance(given, list) or len(given) != 2:
        raise ValueError(f"point {number} must be a pair such as [0, 1], got {written(given)}")
    x, y = (_typed(value, float, f"point {number}") for value in given)
    if over == "steps" and not 0 <= x <= 1:
        raise ValueError(
            f"point {number} lies at {x:g}, but over steps points lie from 0 (the first step) to 1 "
            "(the last)"
        )
    return x, y


# --------------------------------------------------------------------------------------------------
# JSON.


def _json_list(text: str, what: str, *, empty: bool = False) -> list[Any]:
    try:
        found = json.loads(text or "[]")
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{what} must be a JSON list: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from None
    except (RecursionError, ValueError):  # Deeply nested brackets, or a number of 5,000 digits.
        raise ValueError(
            f"{what} must be a JSON list of plain objects, got {written(text)}"
        ) from None
    if not isinstance(found, list) or not (found or empty):
        raise ValueError(f"{what} must be a JSON list with at least 1 entry, got {written(text)}")
    return found


def _fields(
    given: Any, known: dict[str, Callable], *, required: Sequence[str], what: str
) -> dict[str, Any]:
    """The entries of a JSON object, converted to their types; null counts as missing."""
    if not isinstance(given, dict):
        raise ValueError(
            f"{what} must be an object such as {{{', '.join(required)}}}, got {written(given)}"
        )
    given = {name: value for name, value in given.items() if value is not None}
    wrong = [name for name in given if name not in known]
    missing = [name for name in required if name not in given]
    if wrong or missing:
        fault = f"lacks the entry {missing[0]}" if missing else f"has an entry {written(wrong[0])}"
        raise ValueError(f"{what} {fault}, expected {', '.join(known)}")
    return {name: _typed(value, known[name], f"{what}: {name}") for name, value in given.items()}


def _typed(value: Any, kind: Callable, what: str) -> Any:
    if kind is str:
        fits = isinstance(value, str)
    else:
        fits = isinstance(value, (int, float)) and not isinstance(value, bool) and _is(value, kind)
    if not fits:
        wanted = {str: "text", int: "a whole number", float: "a number"}[kind]
        raise ValueError(f"{what} must be {wanted}, got {written(value)}")
    return kind(value)


def _is(value: float, kind: Callable) -> bool:
    """Whether a number is finite and of this type: 4.5 is not a whole number."""
    try:
        return math.isfinite(value) and kind(value) == value
    except OverflowError:
        return False
