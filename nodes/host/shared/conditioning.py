"""CONDITIONING to text tensors: which prompt the frames of a segment get.

A CONDITIONING is ComfyUI's list of [tokens [1, n, d], dict]. Entries whose dict carries
`videoldm_frames: (start, stop)` are for those frames of the finished video only; where two ranges
overlap, the tokens of both are cross-faded. Prompts without frames of their own are ComfyUI's
"combined" ones: each is evaluated, and their predictions are averaged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

FRAMES = "videoldm_frames"


def branches(conditioning: Sequence) -> list[list]:
    """The parts of a CONDITIONING that are evaluated each for itself; ValueError for a mixture of
    prompts with frames of their own and prompts without."""
    _entries(conditioning)
    combined = len(conditioning) > 1 and _range(conditioning[0][1]) is None
    return [[one] for one in conditioning] if combined else [list(conditioning)]


def hint_indices(hints: int, frames: Sequence[int]) -> list[int]:
    """Which of a ControlNet's images each absolute frame of a video gets: the last one remains."""
    return [min(frame, hints - 1) for frame in frames]


def text_for(conditioning: Sequence, frames: Sequence[int]) -> Tensor | None:
    """Tokens of one branch for the absolute frames of a segment: [1, n, d], or [1, t, n, d] where
    they differ. Tokens [k, n, d] of one prompt are those of the frames 0 .. k - 1, as other packs
    schedule prompts."""
    entries = _entries(conditioning)
    return for_frames(*zip(*entries, strict=True), frames, tokens=True)


def pooled_for(conditioning: Sequence, frames: Sequence[int]) -> Tensor | None:
    """The pooled text, which models such as SDXL read, for the absolute frames of a segment:
    [1, d], or [1, t, d] where they differ; mixed as the tokens are."""
    pooled = [more.get("pooled_output") for _, more in conditioning]
    if any(one is None for one in pooled):
        return pooled[0]
    return for_frames(pooled, [range_ for _, range_ in _entries(conditioning)], frames)


def for_frames(
    values: Sequence[Tensor | None], ranges: Sequence[tuple[int, int] | None],
    frames: Sequence[int], *, tokens: bool = False,
) -> Tensor | None:  # fmt: skip
    """Values [1, ...] of ranges of frames for these frames: [1, ...], or [1, t, ...] where frames
    differ.

    Where ranges overlap, a frame gets the mean of what they hold; frames outside of all (a last
    segment may run past the end) get the nearest's. tokens: values are prompts [1, n, d], whose
    numbers of tokens may differ.
    """
    if len(values) == 1:
        return _rows(values[0], frames)
    values = same_length(values) if tokens else values
    weights = [_weights(ranges, frame) for frame in frames]
    if all(one == weights[0] for one in weights):
        return _mixed(values, weights[0])
    return torch.stack([_mixed(values, one) for one in weights], dim=1)


def _rows(value: Tensor | None, frames: Sequence[int]) -> Tensor | None:
    """A value for all frames, or of a batch [k, ...] each frame's own: the last one remains."""
    if value is None or len(value) == 1:
        return value
    return value[hint_indices(len(value), frames)][None]


def with_frames(conditioning: Sequence, start: int, stop: int) -> list:
    """The same prompts for the frames start .. stop - 1 only."""
    return [[tokens, {**more, FRAMES: (start, stop)}] for tokens, more in conditioning]


def _entries(conditioning: Sequence) -> list[tuple[Tensor | None, tuple[int, int] | None]]:
    if not conditioning:
        raise ValueError("a CONDITIONING holds 0 prompts, at least 1 is needed")
    entries = [(tokens, _range(more)) for tokens, more in conditioning]
    without = sum(range_ is None for _, range_ in entries)
    if 0 < without < len(entries):
        raise ValueError(
            f"{without} of the {len(entries)} prompts of a CONDITIONING have no frames of their "
            f"own: either all of them have some, or none"
        )
    return entries


def _range(more: Mapping[str, Any]) -> tuple[int, int] | None:
    found = more.get(FRAMES)
    if found is None:
        return None
    start, stop = (int(one) for one in found)
    if not 0 <= start < stop:
        raise ValueError(f"a prompt is for the frames {start} to {stop - 1}, which are none")
    return start, stop


def _weights(ranges: Sequence[tuple[int, int]], frame: int) -> list[float]:
    """The share of each prompt in a frame: a linear fade over the frames that ranges share."""
    depths = [min(frame - start + 1, stop - frame) for start, stop in ranges]
    inside = [k for k, depth in enumerate(depths) if depth > 0]
    inside = sorted(inside or [depths.index(max(depths))], key=lambda k: ranges[k])
    if len(inside) > 1:
        # The earliest fades out towards its end and the latest in from its start.
        depths[inside[0]] = ranges[inside[0]][1] - frame
        depths[inside[-1]] = frame - ranges[inside[-1]][0] + 1
    else:
        depths[inside[0]] = 1
    total = sum(depths[k] for k in inside)
    return [depths[k] / total if k in inside else 0.0 for k in range(len(ranges))]


def _mixed(tokens: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    if 1.0 in weights:
        return tokens[weights.index(1.0)]
    return sum(weight * one for weight, one in zip(weights, tokens, strict=True) if weight)


def same_length(tokens: Sequence[Tensor]) -> list[Tensor]:
    """Prompts of n tokens each: repeated to a common multiple, which attention does not notice."""
    length = math.lcm(*(one.shape[1] for one in tokens))
    return [one.repeat(1, length // one.shape[1], 1) for one in tokens]
