"""Texts typed into nodes: segments, bounding boxes, strengths per site."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...core.sites import check_site
from ...core.temporal_layers import Strength
from ..host.conditioning import with_frames
from .running import SEED

if TYPE_CHECKING:
    from ..host.interface import Conditioning, Host, Wire


# --------------------------------------------------------------------------------------------------
# Segments.


@dataclass(frozen=True)
class Segment:
    """A part of a video with its own prompt; its first `overlap` frames fade over to it."""

    prompt: str
    frames: int
    overlap: int = 0
    seed: int | None = None


def read_segments(text: str) -> list[Segment]:
    """Segments from JSON; ValueError names the segment and what is wrong with it."""
    segments = [_segment(k, one) for k, one in enumerate(_json_list(text, "segments"))]
    for k, one in enumerate(segments):
        shortest = min(one.frames, segments[k - 1].frames if k else one.frames)
        if one.frames < 1 or not 0 <= one.overlap < shortest:
            raise ValueError(
                f"segment {k}: overlap {one.overlap} must be smaller than the {shortest} frames "
                "of the shorter segment beside it"
            )
    return segments


def _segment(index: int, given: Any) -> Segment:
    known = {"prompt": str, "frames": int, "overlap": int, "seed": int}
    fields = _fields(given, known, required=("prompt", "frames"), what=f"segment {index}")
    if index == 0:
        fields["overlap"] = 0
    return Segment(**fields)


def segments_conditioning(host: Host, clip: Wire, text: str) -> tuple[Conditioning, int]:
    """The prompts of all segments, each for its frames, and how many frames that makes."""
    conditioning, stop = [], 0
    for segment in read_segments(text):
        start = stop - segment.overlap
        stop = start + segment.frames
        entries = with_frames(host.encode_text(clip, segment.prompt), start, stop)
        seed = {} if segment.seed is None else {SEED: segment.seed}
        conditioning += [[tokens, {**more, **seed}] for tokens, more in entries]
    return conditioning, stop


# --------------------------------------------------------------------------------------------------
# Bounding boxes.


@dataclass(frozen=True)
class BoundingBox:
    """An object and where it is: corners in parts of the picture, (0, 0) at the top left."""

    label: str
    x0: float
    y0: float
    x1: float
    y1: float


def read_boxes(text: str) -> list[BoundingBox]:
    """Boxes from JSON; ValueError names the box and what is wrong with it."""
    known = {"label": str, "x0": float, "y0": float, "x1": float, "y1": float}
    boxes = [
        BoundingBox(**_fields(one, known, required=tuple(known), what=f"box {k}"))
        for k, one in enumerate(_json_list(text, "boxes", empty=True))
    ]
    for k, box in enumerate(boxes):
        if not (0 <= box.x0 < box.x1 <= 1 and 0 <= box.y0 < box.y1 <= 1):
            raise ValueError(
                f"box {k}: the corners ({box.x0}, {box.y0}) and ({box.x1}, {box.y1}) must be in "
                "order and lie in 0 .. 1"
            )
    return boxes


def boxes_conditioning(host: Host, clip: Wire, text: str, boxes: str) -> Conditioning:
    return host.encode_boxes(clip, text, read_boxes(boxes))


# --------------------------------------------------------------------------------------------------
# Strengths.


def read_strength(overall: float, attention: float, convolution: float, sites: str) -> Strength:
    """Strengths of temporal layers; `sites` is like "down.0 = 0.5, mid = 0"."""
    found: dict[str, float] = {}
    for part in filter(None, (one.strip() for one in sites.replace("\n", ",").split(","))):
        name, equals, value = (one.strip() for one in part.partition("="))
        if not equals or not _is_number(value):
            raise ValueError(f"the strength {part!r} must be written as in down.0=0.5")
        found[_site_prefix(name)] = float(value)
    kinds = {"attention": attention, "convolution": convolution}
    return Strength(overall=overall, kinds=kinds, sites=found)


def _site_prefix(name: str) -> str:
    """A site, or the beginning of one such as "mid" or "down.0"."""
    head, *rest = name.split(".")
    if head in ("down", "up", "mid") and all(one.isdigit() for one in rest) and len(rest) < 2:
        return name
    return check_site(name)


def _is_number(text: str) -> bool:
    try:
        return float(text) == float(text)
    except ValueError:
        return False


# --------------------------------------------------------------------------------------------------
# JSON.


def _json_list(text: str, what: str, *, empty: bool = False) -> list[Any]:
    try:
        found = json.loads(text or "[]")
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{what} must be a JSON list: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from None
    if not isinstance(found, list) or not (found or empty):
        raise ValueError(f"{what} must be a JSON list with at least 1 entry, got {text[:40]!r}")
    return found


def _fields(
    given: Any, known: dict[str, Callable], *, required: Sequence[str], what: str
) -> dict[str, Any]:
    """The entries of one JSON object in their types; null counts as not given."""
    if not isinstance(given, dict):
        raise ValueError(f"{what} must be an object such as {{{', '.join(required)}}}, got {given}")
    given = {name: value for name, value in given.items() if value is not None}
    wrong = [name for name in given if name not in known]
    missing = [name for name in required if name not in given]
    if wrong or missing:
        fault = f"lacks the entry {missing[0]!r}" if missing else f"has an entry {wrong[0]!r}"
        raise ValueError(f"{what} {fault}, expected {', '.join(known)}")
    return {name: _typed(value, known[name], f"{what}: {name}") for name, value in given.items()}


def _typed(value: Any, kind: Callable, what: str) -> Any:
    numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
    fits = isinstance(value, str) if kind is str else numeric and kind(value) == value
    if not fits:
        raise ValueError(f"{what} must be {'text' if kind is str else 'a number'}, got {value!r}")
    return kind(value)
