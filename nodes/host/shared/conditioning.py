"""CONDITIONING to text tensors: which prompt each frame of a segment gets.

A CONDITIONING is ComfyUI's list of [tokens [1, n, d], dict]. Entries whose dict has
`videoldm_frames: (start, stop)` are for those frames of the finished video only; where two ranges
overlap, their tokens are cross-faded. `videoldm_within: (start, stop)` names the segment that a
range is a part of; cross-fades are then those of the segment. Several prompts without ranges are
ComfyUI's "combined" ones: each is evaluated, and their predictions are averaged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ....core.text.blending import linear, spherical

FRAMES, WITHIN, BLEND = "videoldm_frames", "videoldm_within", "videoldm_blend"
OF_FRAMES = (FRAMES, WITHIN, BLEND)
"""Keys of an entry about its frames; models do not get them."""
SPHERICAL = "spherical"
"""Value of BLEND: tokens are interpolated spherically, not linearly. Pooled text always is
linearly."""


class Span(NamedTuple):
    """The frames first .. last - 1 of an entry, and the range of the segment that it belongs to."""

    first: int
    last: int
    segment: tuple[int, int]
    whole: bool
    """Whether the entry covers its whole segment."""


def branches(conditioning: Sequence) -> list[list]:
    """The parts of a CONDITIONING that are evaluated separately; ValueError if only some of its
    prompts have a range of frames."""
    _entries(conditioning)
    combined = len(conditioning) > 1 and span_of(conditioning[0][1]) is None
    return [[one] for one in conditioning] if combined else [list(conditioning)]


def hint_indices(hints: int, frames: Sequence[int]) -> list[int]:
    """Which of a ControlNet's images each absolute frame of a video gets: frames past the last
    image keep that one."""
    return [min(frame, hints - 1) for frame in frames]


def text_for(conditioning: Sequence, frames: Sequence[int]) -> Tensor | None:
    """Tokens of one branch for the absolute frames of a segment: [1, n, d], or [1, t, n, d] if they
    differ. Tokens [k, n, d] of a single prompt are for the frames 0 .. k - 1, which is how other
    packs schedule prompts."""
    entries = _entries(conditioning)
    blend = conditioning[0][1].get(BLEND)
    return for_frames(*zip(*entries, strict=True), frames, tokens=True, blend=blend)


def pooled_for(conditioning: Sequence, frames: Sequence[int]) -> Tensor | None:
    """The pooled text, which models such as SDXL read, for the absolute frames of a segment:
    [1, d], or [1, t, d] if they differ. It is always interpolated linearly."""
    pooled = [more.get("pooled_output") for _, more in conditioning]
    if any(one is None for one in pooled):
        return pooled[0]
    return for_frames(pooled, [span for _, span in _entries(conditioning)], frames)


def for_frames(
    values: Sequence[Tensor | None], spans: Sequence[Span | None], frames: Sequence[int], *,
    tokens: bool = False, blend: str | None = None,
) -> Tensor | None:  # fmt: skip
    """Values [1, ...] of spans of frames for these frames: [1, ...], or [1, t, ...] if the frames
    differ.

    Overlapping segments are cross-faded; frames outside all of them (a last segment may run past
    the end) get the nearest one's value. tokens: values are prompts [1, n, d] whose n may differ.
    blend: `SPHERICAL`, or None for linear.
    """
    if len(values) == 1:
        return _rows(values[0], frames)
    values = same_length(values) if tokens else values
    mixed = spherical if blend == SPHERICAL else linear
    shares = [_shares(spans, frame) for frame in frames]
    if all(one == shares[0] for one in shares):
        return _mixed(values, shares[0], mixed)
    return torch.stack([_mixed(values, one, mixed) for one in shares], dim=1)


def _rows(value: Tensor | None, frames: Sequence[int]) -> Tensor | None:
    """A value [1, ...] as it is; of a batch [k, ...] the row of each frame, [1, t, ...]."""
    if value is None or len(value) == 1:
        return value
    return value[hint_indices(len(value), frames)][None]


def with_frames(
    conditioning: Sequence, start: int, stop: int, within: tuple[int, int] | None = None
) -> list:
    """The same prompts for the frames start .. stop - 1 only, a part of the segment `within`."""
    span = {FRAMES: (start, stop)} | ({} if within is None else {WITHIN: within})
    return [[tokens, {**more, **span}] for tokens, more in conditioning]


def _entries(conditioning: Sequence) -> list[tuple[Tensor | None, Span | None]]:
    if not conditioning:
        raise ValueError("a CONDITIONING holds 0 prompts, at least 1 is needed")
    entries = [(tokens, span_of(more)) for tokens, more in conditioning]
    without = sum(span is None for _, span in entries)
    if 0 < without < len(entries):
        raise ValueError(
            f"{without} of the {len(entries)} prompts of a CONDITIONING have no frames of their "
            f"own: either all of them have some, or none"
        )
    return entries


def span_of(more: Mapping[str, Any]) -> Span | None:
    """The frames that an entry is for, None for all; ValueError for an empty range."""
    found = more.get(FRAMES)
    if found is None:
        return None
    start, stop = (int(one) for one in found)
    if not 0 <= start < stop:
        raise ValueError(f"a prompt is for the frames {start} to {stop - 1}, an empty range")
    within = more.get(WITHIN)
    return Span(start, stop, tuple(within or (start, stop)), within is None)


def _shares(spans: Sequence[Span], frame: int) -> list[tuple[int, float]]:
    """The values that a frame is mixed from, in the order of their segments, and their shares."""
    segments = {one.segment if not one.whole else k: one.segment for k, one in enumerate(spans)}
    weights = dict(zip(segments, _weights(list(segments.values()), frame), strict=True))
    found = []
    for k, one in enumerate(spans):
        weight, (start, stop) = weights[one.segment if not one.whole else k], one.segment
        # A frame outside the segment gets the segment's first or last part.
        if weight and one.first <= min(max(frame, start), stop - 1) < one.last:
            found.append((k, weight))
    return sorted(found, key=lambda one: spans[one[0]].segment)


def _weights(ranges: Sequence[tuple[int, int]], frame: int) -> list[float]:
    """The share of each segment in a frame: a linear cross-fade where they overlap."""
    depths = [min(frame - start + 1, stop - frame) for start, stop in ranges]
    inside = [k for k, depth in enumerate(depths) if depth > 0]
    inside = sorted(inside or [depths.index(max(depths))], key=lambda k: ranges[k])
    if len(inside) > 1:
        # The earliest fades out towards its end, and the latest fades in from its start.
        depths[inside[0]] = ranges[inside[0]][1] - frame
        depths[inside[-1]] = frame - ranges[inside[-1]][0] + 1
    else:
        depths[inside[0]] = 1
    total = sum(depths[k] for k in inside)
    return [depths[k] / total if k in inside else 0.0 for k in range(len(ranges))]


def _mixed(
    values: Sequence[Tensor], shares: Sequence[tuple[int, float]],
    mix: Callable[[Tensor, Tensor, float], Tensor],
) -> Tensor:  # fmt: skip
    """The values interpolated pairwise: the result so far with the next one."""
    (first, total), *others = shares
    found = values[first]
    for k, share in others:
        total += share
        found = mix(found, values[k], share / total)
    return found


def same_length(tokens: Sequence[Tensor]) -> list[Tensor]:
    """Prompts repeated to a common length, which does not change cross-attention."""
    length = math.lcm(*(one.shape[1] for one in tokens))
    return [one.repeat(1, length // one.shape[1], 1) for one in tokens]
