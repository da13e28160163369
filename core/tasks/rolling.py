"""Rolling denoising: endless video from a queue of frames at rising noise levels (FIFO-Diffusion,
Kim et al. 2024).

A first segment of one window is sampled as usual, and its frames are noised to the levels of the
queue. Then every step takes each frame one level down, the first frame leaves clean, and a frame of
pure noise joins at the end. Memory does not depend on the length of the video.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..diffusion.curves import StepAt, current_step
from ..diffusion.denoiser import broadcast, to_ve, to_vp
from ..diffusion.noise import NoiseSource, mixed_noise
from ..diffusion.samplers import Step, ancestral_step
from ..networks.reference import ReferenceWindow
from .drift import HeldReference
from .frame_stream import check_finite
from .rolling_windows import QueueWindow, leading_context, queue_windows
from .segment import (
    DenoiserFor,
    Evaluations,
    Progress,
    ProgressCallback,
    Sampling,
    SegmentCondition,
    Size,
    check_frames,
    in_scope,
    reporter,
    sample_segment,
)

QUEUE_STREAM = "rolling queue"
"""The stream of the noise that the first segment is noised with."""


@dataclass(frozen=True, kw_only=True)
class FirstWindow:
    """How the first segment, from which the queue is built, is sampled; None = like the queue."""

    denoiser_for: DenoiserFor | None = None
    sampling: Sampling | None = None


@dataclass(frozen=True, kw_only=True)
class Rolling:
    """Settings of rolling denoising.

    window: frames that the model sees together. lookahead: denoise each frame beside half a window
    of cleaner ones, at twice the evaluations. eta: share of each step's noise that is drawn anew, 0
    for Euler's method (DDIM), 1 for ancestral sampling. rate: frame-rate class. reference: keep the
    first segment in the spatial attention of all windows, see `drift.HeldReference`. chunk: frames
    per yield.
    """

    window: int = 16
    lookahead: bool = True
    eta: float = 0.0
    first: FirstWindow = field(default_factory=FirstWindow)
    rate: int | None = None
    reference: ReferenceWindow | None = None
    chunk: int = 16

    def __post_init__(self) -> None:
        if self.chunk < 1 or not 0 <= self.eta <= 1:
            raise ValueError(
                f"Expected a chunk of at least 1 frame and eta in 0 .. 1, got {self.chunk} and "
                f"{self.eta}."
            )

    @property
    def front(self) -> int:
        """Finished frames that stay in the queue as context."""
        return leading_context(self.window, self.lookahead)

    def warm_up(self, steps: int) -> int:
        """Frames to discard before the first frame of the video: copies of the first segment's
        first frame."""
        return steps - self.window

    @property
    def key_parts(self) -> dict[str, Any]:
        """The settings that a step of the queue depends on, for the key of a chunk."""
        names = ("window", "lookahead", "eta", "rate", "reference")
        return {name: getattr(self, name) for name in names}

    def windows(self, steps: int) -> list[QueueWindow]:
        return queue_windows(steps, self.window, lookahead=self.lookahead)


def rolling(
    denoiser_for: DenoiserFor,
    size: Size,
    sampling: Sampling,
    frames: int,
    *,
    settings: Rolling = Rolling(),  # noqa: B008 (frozen)
    done: Tensor | None = None,
    callback: ProgressCallback | None = None,
) -> Iterator[Tensor]:
    """Yield a video in chunks of `settings.chunk` frames; each step of the queue finishes a frame.

    Only the first segment uses `sampling.sampler`: the queue takes DDIM steps with `settings.eta`.
    done: the frames yielded before an interruption; denoising starts over, and only the rest is
    yielded.
    """
    check_frames(frames, size, sampling, done)
    steps = len(sampling.sigmas) - 1
    settings.windows(steps)
    warm_up, ready = settings.warm_up(steps), 0 if done is None else done.shape[1]

    def run() -> Iterator[Tensor]:
        if ready == frames:
            return
        queue = start_queue(denoiser_for, size, sampling, settings, callback)
        for start in range(0, frames, settings.chunk):
            stop = min(start + settings.chunk, frames)
            taken = _taken(queue, stop + warm_up, frames + warm_up, callback)
            chunk = taken[:, taken.shape[1] - (stop - start) :]
            if stop > ready:
                yield chunk[:, max(ready - start, 0) :].clone()

    return run()


def _taken(queue: RollingQueue, stop: int, total: int, callback: ProgressCallback | None) -> Tensor:
    """The frames that leave until `stop` of `total` have left.

    A chunk is stored together with the queue behind it, from which a run resumes.
    """
    count = stop - queue.left
    numbers = range(queue.number(queue.settings.front), queue.number(queue.x.shape[1]) + count)

    def leave() -> Tensor:
        leaving = []
        while queue.left < stop:
            queue.step()
            frame = check_finite(queue.shift(), queue.left - 1)
            leaving.append(frame)
            if callback is not None:
                step = Step(0, 1, float(queue.levels[0]), frame, frame)
                callback(Progress("rolling", queue.left - 1, total, step))
        return torch.cat([*leaving, queue.x], dim=1)

    both = queue.sampling.finished(
        lambda: in_scope(queue.denoiser_for, queue.planned, leave),
        frames=range(max(numbers.start, 0), numbers.stop), queue=queue.x, left=queue.left,
        sigmas=queue.sampling.sigmas, noise=queue.sampling.noise(len(queue.x), numbers),
        **queue.settings.key_parts, head=queue.head,
    ).to(queue.sampling.device)  # fmt: skip
    queue.left, queue.x = stop, both[:, count:]
    return both[:, :count]


# --------------------------------------------------------------------------------------------------
# The queue.


class RollingQueue:
    """Frames x [b, front + steps, c, h, w]: finished ones first, then one per step.

    levels: [front + steps] their sigmas. below: their sigmas after the next step. left: number of
    frames that have left. head: the first segment if it is kept in attention, else None. Frame 0 is
    the first of the video; the warm-up has negative numbers, and the model sees it as frame 0.
    """

    def __init__(self, x: Tensor, denoiser_for: DenoiserFor, sampling: Sampling, settings: Rolling):
        self.x, self.denoiser_for, self.sampling, self.settings = (
            x,
            denoiser_for,
            sampling,
            settings,
        )
        self.steps = len(sampling.sigmas) - 1
        rising, clean = sampling.sigmas.flip(0), sampling.sigmas[-1:].expand(settings.front)
        self.levels = torch.cat([clean, rising[1:]])
        self.below = torch.cat([clean, rising[:-1]])
        self.windows = settings.windows(self.steps)
        self.left = 0
        self.head: Tensor | None = None

    @property
    def planned(self) -> Evaluations:
        """The evaluations that the steps of the queue request."""
        videos, _, *image = self.x.shape
        return Evaluations(self._condition(self.windows[0].seen), (videos, *image), self.levels)

    def number(self, position: int) -> int:
        """The frame number at a position of the queue."""
        return position - self.settings.front + self.left - self.settings.warm_up(self.steps)

    def step(self) -> None:
        """Take every frame one noise level down; all windows see the frames as they were before."""
        x = self.x.clone()
        for seen, updated in self.windows:
            within = slice(updated.start - seen.start, updated.stop - seen.start)
            answer = self._denoised(seen)[:, within]
            x[:, updated.start : updated.stop] = self._stepped(updated, answer)
        self.x = x

    def shift(self) -> Tensor:
        """Return the frame that has just become clean [b 1 c h w]. The oldest frame is dropped from
        the queue, and pure noise is appended."""
        front = self.settings.front
        frame = to_vp(self.x[:, front : front + 1], self.sampling.sigmas[-1])
        self.left += 1
        noise = self._noise(self.number(self.x.shape[1] - 1)).initial(frame)
        self.x = torch.cat([self.x[:, 1:], to_ve(noise, self.levels[-1])], dim=1)
        return frame

    def _condition(self, seen: range) -> SegmentCondition:
        numbers = tuple(max(self.number(position), 0) for position in seen)
        return SegmentCondition(frames=numbers, rate=self.settings.rate, level="window")

    def _denoised(self, seen: range) -> Tensor:
        """The denoised frames of a window, each evaluated at its own noise level."""
        at = slice(seen.start, seen.stop)
        before = current_step.get()
        # Curves over steps follow the frame in the middle of the window.
        current_step.set(StepAt(self._step_of(seen[len(seen) // 2]), self.steps))
        try:
            sigma = self.levels[at].expand(len(self.x), -1)
            return self.denoiser_for(self._condition(seen))(self.x[:, at], sigma)
        finally:
            current_step.set(before)

    def _stepped(self, updated: range, denoised: Tensor) -> Tensor:
        """A DDIM step (Song et al. 2021, eq. 12) with one noise level per frame."""
        x = self.x[:, updated.start : updated.stop]
        pairs = [(float(self.levels[p]), float(self.below[p])) for p in updated]
        down_up = [ancestral_step(sigma, below, self.settings.eta) for sigma, below in pairs]
        kept = [down / sigma for (down, _), (sigma, _) in zip(down_up, pairs, strict=True)]
        x = denoised + broadcast(torch.tensor([kept]), x) * (x - denoised)
        for k, (position, (_, up)) in enumerate(zip(updated, down_up, strict=True)):
            if up > 0:
                source = self._noise(self.number(position))
                x[:, k : k + 1] += up * source(self._step_of(position), x[:, k : k + 1])
        return x

    def _step_of(self, position: int) -> int:
        """The sampling step that the frame at a position takes next, from 0."""
        return self.steps - 1 - max(position - self.settings.front, 0)

    def _noise(self, number: int) -> NoiseSource:
        return self.sampling.noise(len(self.x), (number,))


def start_queue(
    denoiser_for: DenoiserFor,
    size: Size,
    sampling: Sampling,
    settings: Rolling,
    callback: ProgressCallback | None = None,
) -> RollingQueue:
    """Build the queue from a first segment of one window: its last frames get the highest levels,
    and copies of its first frame all levels below."""
    condition = SegmentCondition(frames=range(settings.window), rate=settings.rate)
    segment = sample_segment(
        settings.first.denoiser_for or denoiser_for,
        condition,
        size,
        settings.first.sampling or sampling,
        callback=reporter(callback, "segment", 0, 1),
    )
    if settings.reference is not None:
        denoiser_for = HeldReference(denoiser_for, segment, settings.reference, sampling)
    queue = RollingQueue(segment, denoiser_for, sampling, settings)
    queue.head = None if settings.reference is None else segment
    numbers = [queue.number(p) for p in range(settings.front + queue.steps)]
    clean = segment[:, [max(number, 0) for number in numbers]]
    noise = _set_up_noise(clean, numbers, sampling)
    queue.x = clean + broadcast(queue.levels[None], clean) * noise
    return queue


def _set_up_noise(clean: Tensor, numbers: Sequence[int], sampling: Sampling) -> Tensor:
    """Noise for the first segment, independent of the noise that it was sampled from."""
    b, alpha = len(clean), sampling.shared_noise
    noise = sampling.noise(b, numbers).like(clean, stream=QUEUE_STREAM)
    if not alpha:
        return noise
    shared = sampling.noise(b, (0,)).like(clean[:, :1], stream=f"{QUEUE_STREAM}, shared")
    return mixed_noise(noise, shared, alpha)
