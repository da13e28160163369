"""Frames between key frames: T -> 4T - 3, and again to about 16T (Video LDM, section 3.3).

In each window every fourth frame is a key frame, marked by a mask, and the model samples the three
between each two. Neighbouring windows share the key frame at their border, so any number of key
frames is interpolated in the memory of one window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from math import inf
from typing import NamedTuple

import torch
from torch import Tensor

from ..diffusion.samplers import Callback
from ..networks.context_frames import given_frames
from ..networks.video_shape import check_video
from .frame_stream import Frames, FrameStream
from .segment import (
    ContextUse,
    DenoiserFor,
    ProgressCallback,
    Sampling,
    SegmentCondition,
    begin_segment,
    reporter,
)

FACTOR = 4
"""Frames per key frame after one pass, as the published models were trained."""


def interpolated_frames(keys: int, passes: int = 1, factor: int = FACTOR) -> int:
    """factor^passes (K - 1) + 1: 16 key frames become 61, then 241."""
    return (keys - 1) * factor**passes + 1


def linear_blend(keys: Tensor, factor: int = FACTOR) -> Tensor:
    """Key frames [b, K, ...] with factor - 1 linear blends between each two."""
    return blended(keys, range(0, interpolated_frames(keys.shape[1], 1, factor), factor))


def blended(frames: Tensor, at: Sequence[int]) -> Tensor:
    """Frames [b, K, ...] at the increasing numbers `at`, linear blends at the numbers between."""
    known = torch.tensor(at, device=frames.device)
    numbers = torch.arange(at[0], at[-1] + 1, device=frames.device)
    before = torch.searchsorted(known, numbers, right=True).sub(1).clamp(0, len(at) - 2)
    weight = (numbers - known[before]) / (known[before + 1] - known[before])
    weight = weight.reshape(1, -1, *[1] * (frames.ndim - 2)).to(frames)
    return torch.lerp(frames[:, before], frames[:, before + 1], weight)


@dataclass(frozen=True, kw_only=True)
class Interpolation:
    """Settings of interpolation.

    window_keys: key frames per window. overlap_keys: key frames that neighbouring windows share;
    the frames between shared ones are the earlier window's. rate: frame-rate class of the first
    pass; each further pass uses the next. keep_keys: keep the key frames as given instead of as the
    model sampled them. from_blend: start from the linear blend of the key frames, noised to the
    first sigma, which is then low, instead of from noise alone. total_keys: their number where they
    come in chunks, for progress only; 0 = unknown. frames: length of the video to make, windows
    behind it are skipped; 0 = all.
    """

    window_keys: int = 5
    overlap_keys: int = 1
    rate: int | None = 0
    passes: int = 1
    keep_keys: bool = True
    from_blend: bool = False
    use: ContextUse = ContextUse()
    factor: int = FACTOR
    total_keys: int = 0
    frames: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.overlap_keys < self.window_keys:
            raise ValueError(
                f"overlap_keys {self.overlap_keys} must be at least 1 and smaller than "
                f"window_keys {self.window_keys}."
            )
        if self.passes < 1 or self.factor < 2:
            raise ValueError(
                f"passes {self.passes} must be at least 1, and factor {self.factor} at least 2."
            )


def interpolate(
    denoiser_for: DenoiserFor,
    keys: Frames,
    sampling: Sampling,
    *,
    settings: Interpolation = Interpolation(),  # noqa: B008 (frozen)
    done: Tensor | None = None,
    callback: ProgressCallback | None = None,
) -> Iterator[Tensor]:
    """Yield key frames with the frames between them, latents [b t c h w], window by window.

    keys: latents [b K c h w], or an iterable of chunks of them. done: what an interrupted run with
    the same settings yielded; only the rest is yielded.

    Raises ValueError before anything is sampled.
    """
    if done is not None and settings.passes > 1 and not settings.keep_keys:
        raise ValueError(
            f"{settings.passes} passes can only be continued when key frames are kept."
        )
    total_keys = settings.total_keys
    if isinstance(keys, Tensor):
        check_video(keys)
        total_keys = keys.shape[1]
    windows = _Windows(settings.window_keys, settings.overlap_keys, settings.factor)
    use = replace(settings.use, restore=settings.keep_keys)
    wanted = _wanted(windows, settings)
    for k in range(settings.passes):
        spacing = settings.factor ** (settings.passes - 1 - k)
        rate = None if settings.rate is None else settings.rate + k
        level = f"interpolation {k + 1}"
        single = _Pass(denoiser_for, sampling, use, rate, level, spacing, settings.from_blend)
        reports = _Reports(callback, single.level, total_keys)
        part = None if done is None else done[:, ::spacing]
        new = _one_pass(single, keys, windows._replace(wanted=wanted[k]), part, reports)
        keys = new if part is None or spacing == 1 else chain([part], new)
        total_keys = interpolated_frames(total_keys, 1, settings.factor) if total_keys else 0
    return iter(keys)


class _Windows(NamedTuple):
    """Window n has the key frames first_key(n) .. first_key(n) + window - 1."""

    window: int
    overlap: int
    factor: int
    wanted: float = inf  # frames to make; windows behind them are skipped

    def first_key(self, window: int) -> int:
        return window * (self.window - self.overlap)

    def stop(self, window: int) -> int:
        """One more than the last frame of this window, if it is a full one."""
        return (self.first_key(window) + self.window - 1) * self.factor + 1

    def keys_of(self, frames: float) -> float:
        """Key frames of the windows that cover so many frames."""
        if frames == inf:
            return inf
        step = (self.window - self.overlap) * self.factor
        return self.first_key(max(0, -(-(frames - self.stop(0)) // step))) + self.window

    def finished(self, frames: int) -> int:
        """Number of full windows within the first `frames` frames."""
        step = (self.window - self.overlap) * self.factor
        return max(0, (frames - self.stop(0)) // step + 1)


def _wanted(windows: _Windows, settings: Interpolation) -> list[float]:
    """How many frames each pass has to make."""
    wanted = [settings.frames or inf]
    for _ in range(settings.passes - 1):
        wanted.insert(0, windows.keys_of(wanted[0]))
    return wanted


class _Pass(NamedTuple):
    denoiser_for: DenoiserFor
    sampling: Sampling
    use: ContextUse
    rate: int | None
    level: str
    spacing: int  # distance of this pass's frames in the finished video
    from_blend: bool


def _one_pass(
    single: _Pass, keys: Frames, windows: _Windows, done: Tensor | None, reports: _Reports
) -> Iterator[Tensor]:
    """Yield the frames of this pass that are not done yet.

    A window depends on its key frames only, so one that is partly finished is sampled again.
    """
    pending = _pending(single, keys, windows, 0 if done is None else done.shape[1], reports)
    for window, known in single.sampling.finished.ahead(pending):
        yield window()[:, known:].clone()


def _pending(
    single: _Pass, keys: Frames, windows: _Windows, yielded: int, reports: _Reports
) -> Iterator[tuple[Callable[[], Tensor], int]]:
    """Begin window by window; with each, how many of its frames have been yielded already."""
    stream = FrameStream(keys)
    window = windows.finished(yielded)
    stream.release(windows.first_key(window))
    while yielded < windows.wanted:
        first = windows.first_key(window)
        full = stream.read_until(first + windows.window)
        last = first + windows.window if full else stream.stop
        stop = (last - 1) * windows.factor + 1
        if stop > yielded:
            given = stream.frames(first, last)
            video = _fill(single, given, first, windows.factor, reports.of(window, windows))
            yield video, yielded - first * windows.factor
        if not full:
            break
        yielded, window = max(stop, yielded), window + 1
        stream.release(windows.first_key(window))
    if stream.stop == 0 and yielded == 0:
        raise ValueError("There are 0 key frames to interpolate between.")


def _fill(
    single: _Pass, keys: Tensor, first_key: int, factor: int, callback: Callback | None
) -> Callable[[], Tensor]:
    """Begin a window [b t c h w] from its key frames [b k c h w], the first of them number
    first_key."""
    videos, count = keys.shape[:2]
    if count == 1:
        return lambda: keys
    frames = (count - 1) * factor + 1
    start = first_key * factor
    condition = SegmentCondition(
        frames=range(start * single.spacing, (start + frames) * single.spacing, single.spacing),
        context=given_frames(keys.to(single.sampling.device), range(0, frames, factor), frames),
        rate=single.rate,
        level=single.level,
    )
    size = (videos, *keys.shape[2:])
    x0 = linear_blend(keys, factor) if single.from_blend else None
    return begin_segment(
        single.denoiser_for, condition, size, single.sampling, single.use, x0=x0, callback=callback
    )


class _Reports(NamedTuple):
    """Progress of one pass over `keys` key frames; 0 = unknown."""

    callback: ProgressCallback | None
    level: str
    keys: int

    def of(self, window: int, windows: _Windows) -> Callback | None:
        return reporter(self.callback, self.level, window, self._count(windows))

    def _count(self, windows: _Windows) -> int:
        """Windows that cover the key frames; the last may be short."""
        if self.keys == 0:
            return 0
        frames = (self.keys - 1) * windows.factor + 1
        full = windows.finished(frames)
        return full + (full == 0 or windows.stop(full - 1) < frames)
