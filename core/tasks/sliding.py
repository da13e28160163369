"""All frames of a long video at once, denoised in overlapping windows that are averaged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..diffusion.denoiser import to_ve
from ..diffusion.noise import free_noise
from ..networks.context_frames import ContextFrames
from .frame_stream import check_finite
from .segment import (
    ClipCondition,
    DenoiserFor,
    Evaluations,
    ProgressCallback,
    Sampling,
    Size,
    check_frames,
    check_whole,
    in_scope,
    reporter,
)
from .windows import Window, fuse_weights, sliding_windows, windowed


@dataclass(frozen=True, kw_only=True)
class SlidingWindows:
    """How a long video is denoised in windows.

    plan: plan(frames, window, overlap) -> windows, one of those in windows.py. fuse: weights of
    overlapping windows, one of windows.FUSE_WEIGHTS. free_noise: shuffle the first window's noise
    over the video (Qiu et al. 2023), which holds distant frames together. context: given frames of
    the whole video, of which each window is given its own. rate: frame-rate class. chunk: frames
    that are yielded at a time.
    """

    window: int = 16
    overlap: int = 4
    plan: Callable[[int, int, int], list[Window]] = sliding_windows
    fuse: str = "pyramid"
    free_noise: bool = True
    context: ContextFrames | None = None
    rate: int | None = None
    chunk: int = 16

    def __post_init__(self) -> None:
        if self.chunk < 1:
            raise ValueError(f"A chunk must have at least 1 frame, got {self.chunk}.")
        if not 0 <= self.overlap < self.window:
            raise ValueError(
                f"overlap {self.overlap} must be smaller than window {self.window} and not below 0."
            )


def sliding(
    denoiser_for: DenoiserFor,
    size: Size,
    sampling: Sampling,
    frames: int,
    *,
    windows: SlidingWindows = SlidingWindows(),  # noqa: B008 (frozen)
    done: Tensor | None = None,
    callback: ProgressCallback | None = None,
) -> Iterator[Tensor]:
    """Yield a video in chunks of `windows.chunk` frames, after all of it was denoised together.

    The latents of the whole video are in memory, the network sees one window at a time. done: the
    frames that were yielded before an interruption; everything is denoised again, and the rest is
    yielded.
    """
    check_frames(frames, size, sampling, done)
    context = windows.context
    if context is not None:
        check_whole(context.latents, size, frames, "given")
    window = min(windows.window, frames)
    overlap = min(windows.overlap, window - 1)
    plan = windows.plan(frames, window, overlap)
    weights = fuse_weights(windows.fuse, plan, frames, overlap)
    told = {window: _told(window, context, windows.rate) for window in plan}

    def sample() -> Tensor:
        x = _sliding_start(size, sampling, frames, windows, window, overlap)
        bound = {window: denoiser_for(condition) for window, condition in told.items()}
        denoiser = windowed(bound.__getitem__, plan, weights)
        noise = sampling.noise(size[0], range(frames))
        report = reporter(callback, "clip", 0, 1)
        return sampling.sampler(denoiser, x, sampling.sigmas, noise=noise, callback=report)

    def run() -> Iterator[Tensor]:
        ready = 0 if done is None else done.shape[1]
        if ready == frames:
            return
        planned = Evaluations(told[plan[0]], size, sampling.sigmas)
        x = in_scope(denoiser_for, planned, sample)
        x = _with_given(check_finite(x), context)
        for start in range(ready, frames, windows.chunk):
            yield x[:, start : start + windows.chunk].clone()

    return run()


def _told(window: Window, context: ContextFrames | None, rate: int | None) -> ClipCondition:
    part = None if context is None else _part(context, window)
    return ClipCondition(frames=window, context=part, rate=rate, level="window")


def _part(context: ContextFrames, window: Window) -> ContextFrames:
    at = list(window)
    return replace(context, latents=context.latents[:, at], mask=context.mask[:, at])


def _sliding_start(
    size: Size,
    sampling: Sampling,
    frames: int,
    windows: SlidingWindows,
    window: int,
    overlap: int,
) -> Tensor:
    """The noise that a whole video starts from."""
    b, c, h, w = size
    empty = torch.empty(b, frames, c, h, w, device=sampling.device)
    noise = sampling.noise(b, range(frames)).initial(empty)
    if windows.free_noise:
        noise = free_noise(noise, window, overlap, sampling.seed)
    return to_ve(noise, sampling.sigmas[0])


def _with_given(x: Tensor, context: ContextFrames | None) -> Tensor:
    if context is None:
        return x
    return torch.where(context.expanded_mask.to(x) > 0, context.latents.to(x), x)
