"""All frames of a long video at once, denoised in overlapping windows that are averaged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from ..diffusion.curves import current_step, step_of
from ..diffusion.denoiser import Denoiser, to_ve
from ..diffusion.guidance import masked
from ..diffusion.noise import free_noise
from ..networks.context_frames import ContextFrames
from ..networks.reference import ReferenceWindow
from .content import name_of
from .finished import Finished, step_by_step
from .frame_stream import check_finite
from .reference import WindowReference
from .segment import (
    ContextUse,
    DenoiserFor,
    Evaluations,
    ProgressCallback,
    Sampling,
    SegmentCondition,
    Size,
    check_frames,
    check_whole,
    in_scope,
    reporter,
)
from .window_schedules import WindowLayout
from .windows import Window, windowed


@dataclass(frozen=True, kw_only=True)
class SlidingWindows(WindowLayout):
    """Settings of sampling in windows, which are laid out as `WindowLayout` says.

    free_noise: shuffle the first window's noise over the video (FreeNoise, Qiu et al. 2023), which
    keeps distant frames consistent. context: context frames of the whole video, of which each
    window sees its own; only `keep` and `to_network` of `use` apply. x0: start from this video,
    noised to the first sigma (video to video). reference: a window that all others read; None =
    each is independent. rate: frame-rate class. chunk: frames per yield.
    """

    free_noise: bool = True
    context: ContextFrames | None = None
    use: ContextUse = ContextUse()
    x0: Tensor | None = None
    reference: ReferenceWindow | None = None
    rate: int | None = None
    chunk: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.chunk < 1:
            raise ValueError(f"A chunk must have at least 1 frame, got {self.chunk}.")

    def condition_of(self, window: Window) -> SegmentCondition:
        """The condition of a window."""
        given = self.context if self.use.to_network else None
        context = None if given is None else given.at(window)
        return SegmentCondition(frames=window, context=context, rate=self.rate, level="window")

    def condition_of_all(self, frames: int) -> SegmentCondition:
        """The condition of all frames together, where attention is windowed."""
        return SegmentCondition(
            frames=range(frames),
            context=self.context if self.use.to_network else None,
            rate=self.rate,
            views=self.views(frames),
            level="window",
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

    The latents of the whole video are in memory; the network sees one window at a time. The store
    keeps the steps of an unfinished video, each for all windows. done: the frames yielded before an
    interruption; denoising starts over, and only the rest is yielded.
    """
    check_frames(frames, size, sampling, done)
    if windows.context is not None:
        check_whole(windows.context.latents, size, frames, "given")
    if windows.x0 is not None:
        check_whole(windows.x0, size, frames, "initial")
    windows.weights(windows.windows(frames), frames)

    def make(step: Finished) -> Tensor:
        kept = replace(sampling, finished=step)
        return check_finite(_sampled(denoiser_for, size, kept, frames, windows, callback))

    def run() -> Iterator[Tensor]:
        ready = 0 if done is None else done.shape[1]
        if ready == frames:
            return
        x = sampling.finished.in_steps(
            make, frames=range(frames), size=size, windows=windows,
            sigmas=sampling.sigmas, sampler=name_of(sampling.sampler), seed=sampling.seed,
            noise=sampling.noise(size[0], range(frames)),
        ).to(sampling.device)  # fmt: skip
        x = _with_given(x, windows.context)
        for start in range(ready, frames, windows.chunk):
            yield x[:, start : start + windows.chunk].clone()

    return run()


def _sampled(
    denoiser_for: DenoiserFor,
    size: Size,
    sampling: Sampling,
    frames: int,
    windows: SlidingWindows,
    callback: ProgressCallback | None,
) -> Tensor:
    """The whole video; `sampling.finished` stores its steps."""
    plan = windows.windows(frames)
    first = windows.condition_of_all(frames) if windows.is_inside else windows.condition_of(plan[0])

    def sample() -> Tensor:
        start = _noise(size, sampling, frames, windows)
        if windows.is_inside:
            denoiser = denoiser_for(first)
        else:
            denoiser = _by_step(denoiser_for, windows, frames, sampling.sigmas)
        denoiser = _held(step_by_step(denoiser, sampling.finished), windows, start)
        x = _noisy(start, sampling.sigmas[0], windows.x0)
        noise = sampling.noise(size[0], range(frames))
        report = reporter(callback, "segment", 0, 1)
        return sampling.sampler(denoiser, x, sampling.sigmas, noise=noise, callback=report)

    return in_scope(denoiser_for, Evaluations(first, size, sampling.sigmas), sample)


def _by_step(
    denoiser_for: DenoiserFor, windows: SlidingWindows, frames: int, sigmas: Tensor
) -> Denoiser:
    """One denoiser of the video from the windows of each step."""
    bound: dict[Window, Denoiser] = {}
    reference = _reference(denoiser_for, windows, frames)

    def make(window: Window) -> Denoiser:
        condition = windows.condition_of(window)
        return denoiser_for(condition if reference is None else reference.reading(condition))

    @lru_cache(maxsize=1)
    def laid_at(index: int) -> tuple[list[Window], list[Tensor]]:
        plan = windows.windows(frames, index)
        kept = {window: bound.get(window) or make(window) for window in plan}
        # Windows of other steps would only pile up what they hold, such as ControlNet images.
        bound.clear()
        bound.update(kept)
        return plan, windows.weights(plan, frames)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        step = current_step.get() or step_of(float(sigma.flatten()[0]), sigmas.tolist())
        plan, weights = laid_at(step.index)
        known = {} if reference is None else reference.record(x, sigma, step)
        return windowed({**bound, **known}.__getitem__, plan, weights)(x, sigma)

    return denoise


def _reference(
    denoiser_for: DenoiserFor, windows: SlidingWindows, frames: int
) -> WindowReference | None:
    if windows.reference is None:
        return None
    window, _ = windows.within(frames)
    return WindowReference(windows.reference, windows.condition_of, denoiser_for, frames, window)


def _noise(size: Size, sampling: Sampling, frames: int, windows: SlidingWindows) -> Tensor:
    """The noise of a whole video."""
    b, c, h, w = size
    empty = torch.empty(b, frames, c, h, w, device=sampling.device)
    noise = sampling.noise(b, range(frames)).initial(empty)
    if windows.free_noise:
        noise = free_noise(noise, *windows.within(frames), sampling.seed)
    return noise


def _noisy(noise: Tensor, first: Tensor, x0: Tensor | None) -> Tensor:
    """The start of sampling: noise alone, or a video noised to the first level."""
    return to_ve(noise, first) if x0 is None else x0.to(noise) + first.to(noise) * noise


def _held(denoiser: Denoiser, windows: SlidingWindows, noise: Tensor) -> Denoiser:
    """The denoiser with the context frames held in x, if `use` says so."""
    context = windows.context
    if context is None or not windows.use.keep:
        return denoiser
    return masked(denoiser, context.latents.to(noise), context.expanded_mask, noise=noise)


def _with_given(x: Tensor, context: ContextFrames | None) -> Tensor:
    if context is None:
        return x
    return torch.where(context.expanded_mask.to(x) > 0, context.latents.to(x), x)
