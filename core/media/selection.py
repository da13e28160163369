"""Chooses which stored frames of a file to read, and at which frame rate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from math import ceil, floor
from typing import TypeVar

import numpy as np

from ..graph.wording import counted
from .info import VideoInfo
from .timing import Timing

Picture = TypeVar("Picture")


@dataclass(frozen=True, kw_only=True)
class Selection:
    """A part of a video.

    frame_rate: resample to this rate first, each frame being the stored one shown at its time; None
    takes the frames as stored. Of these, every `stride`-th one from frame `start` on, or from the
    one shown at `start_time` seconds: `count` of them, or those within `duration` seconds, or all.
    Also exact for files with a variable frame rate.
    """

    frame_rate: Fraction | None = None
    start: int = 0
    count: int | None = None
    stride: int = 1
    start_time: Fraction | None = None
    duration: Fraction | None = None


@dataclass(frozen=True)
class SelectedFrames:
    """A selection from one file: indices of its stored frames in non-decreasing order, their new
    frame rate in frames per second, and the time of the first one in the file in seconds."""

    indices: Sequence[int]
    frame_rate: Fraction
    begin: Fraction

    @property
    def frames(self) -> int:
        return len(self.indices)

    @property
    def seconds(self) -> Fraction:
        return self.frames / self.frame_rate


def select_frames(info: VideoInfo, selection: Selection) -> SelectedFrames:
    """Apply a selection to a file; ValueError if the file does not have these frames."""
    _check(selection)
    timing = info.timing or Timing.regular(info.frames, info.frame_rate)
    if selection.frame_rate is None:
        return _stored(info, timing, selection)
    return _laid_out(info, timing, selection)


def is_variable(info: VideoInfo) -> bool:
    """Whether any frame is half a frame or more off its time at the constant average rate."""
    return info.timing is not None and not info.timing.is_regular(info.frame_rate)


def converted(
    pictures: Iterator[Picture], indices: Iterable[int], convert: Callable[[Picture], np.ndarray]
) -> Iterator[np.ndarray]:
    """Yield the converted pictures at non-decreasing `indices`, each converted once. `pictures`
    starts at the first index; the result ends early if it does."""
    at, image = None, None
    for index in indices:
        if index != at:
            skipped = 0 if at is None else index - at - 1
            picture = next(islice(pictures, skipped, None), None)
            if picture is None:
                return
            at, image = index, convert(picture)
        yield image


def _check(selection: Selection) -> None:
    start, count, stride = selection.start, selection.count, selection.stride
    if stride < 1 or start < 0:
        raise ValueError(f"start {start} must be at least 0 and stride {stride} at least 1")
    if count is not None and count < 1:
        raise ValueError(f"count {count} must be at least 1")
    if start and selection.start_time:
        raise ValueError(
            f"start {start} and start_time {float(selection.start_time):g} both say where to "
            f"begin: set one of them to 0"
        )
    if count is not None and selection.duration is not None:
        raise ValueError(
            f"count {count} and duration {float(selection.duration):g} both say how much: set one "
            f"of them to 0"
        )


def _stored(info: VideoInfo, timing: Timing, selection: Selection) -> SelectedFrames:
    start, stride = selection.start, selection.stride
    if selection.start_time is not None:
        _check_time(info, timing, selection.start_time)
        start = timing.shown(selection.start_time)
    stop = info.frames
    if selection.duration is not None and start < info.frames:
        stop = max(start + 1, timing.before(timing.at(start) + selection.duration))
        _check_duration(info, timing, selection, timing.at(start))
    count = _count(info, selection, start, info.frames, stop)
    begin, end = timing.at(start), timing.at(min(start + count * stride, info.frames))
    rate = info.frame_rate / stride
    if not timing.is_regular(info.frame_rate) and end > begin:
        rate = count / (end - begin)
    return SelectedFrames(range(start, start + (count - 1) * stride + 1, stride), rate, begin)


def _laid_out(info: VideoInfo, timing: Timing, selection: Selection) -> SelectedFrames:
    start, stride, rate = selection.start, selection.stride, selection.frame_rate
    total = max(1, floor(timing.seconds * rate + Fraction(1, 2)))
    if selection.start_time is not None:
        _check_time(info, timing, selection.start_time)
        start = min(floor(selection.start_time * rate), total - 1)
    stop = total
    if selection.duration is not None and start < total:
        stop = min(total, start + max(1, ceil(selection.duration * rate)))
        _check_duration(info, timing, selection, start / rate)
    count = _count(info, selection, start, total, stop)
    numbers = range(start, start + (count - 1) * stride + 1, stride)
    return SelectedFrames(
        [timing.shown(number / rate) for number in numbers], rate / stride, start / rate
    )


def _count(info: VideoInfo, selection: Selection, start: int, total: int, stop: int) -> int:
    """The number of frames to take, out of `total`, from `start` on and before `stop`; ValueError
    if there are too few."""
    rate = "" if selection.frame_rate is None else f" at {float(selection.frame_rate):g} per second"
    if start >= total:
        raise ValueError(
            f"{info.path} has {counted(total, 'frame')}{rate}, so none at start {start}"
        )
    available = len(range(start, stop, selection.stride))
    count = available if selection.count is None else selection.count
    if count > available:
        raise ValueError(
            f"{counted(count, 'frame')} wanted from {info.path} but it has {available} "
            f"(of {total}{rate}) from frame {start} with stride {selection.stride}"
        )
    return count


def _check_time(info: VideoInfo, timing: Timing, start_time: Fraction) -> None:
    if not 0 <= start_time < timing.seconds:
        raise ValueError(
            f"{info.path} lasts {float(timing.seconds):.6g} s, so nothing is at start_time "
            f"{float(start_time):g}"
        )


def _check_duration(info: VideoInfo, timing: Timing, selection: Selection, begin: Fraction) -> None:
    """Raise ValueError unless the file lasts long enough, give or take a frame."""
    left, rate = timing.seconds - begin, selection.frame_rate or info.frame_rate
    if selection.duration <= 0:
        raise ValueError(f"duration {float(selection.duration):g} must be positive")
    if selection.duration >= left + 1 / rate:
        raise ValueError(
            f"{float(selection.duration):g} s wanted from {info.path} but it has {float(left):.6g} "
            f"s (of {float(timing.seconds):.6g}) from {float(begin):.6g} s on"
        )
