"""Rolling denoising: a queue of frames at rising noise levels, which has no end.

A clip of one window is sampled as usual. Its frames are noised to the levels of the queue; then
every step takes each frame one level down, the first frame leaves clean and one of pure noise joins
(Kim et al. 2024, FIFO-Diffusion). Memory does not depend on the length of the video.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..diffusion.curves import StepAt, step_under_way
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

SETTING_UP = "rolling queue"
"""The stream of the noise that the first clip is noised with."""


@dataclass(frozen=True, kw_only=True)
class FirstClip:
    """How the clip is sampled that the queue begins with; None for the way of the queue."""

    denoiser_for: DenoiserFor | None = None
    sampling: Sampling | None = None


@dataclass(frozen=True, kw_only=True)
class Rolling:
    """How a video is denoised in a queue.

    window: frames that the model sees together. lookahead: frames are denoised beside half a window
    of cleaner ones, which takes twice the evaluations. eta: share of the noise of each step that is
    drawn anew, 0 is Euler's method and DDIM, 1 is ancestral sampling. rate: frame-rate class.
    reference: the first clip stays in the spatial attention of all windows, see
    `drift.HeldReference`. chunk: frames that are yielded at a time.
    """

    window: int = 16
    lookahead: bool = True
    eta: float = 0.0
    first: FirstClip = field(default_factory=FirstClip)
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
        """Frames that leave before the first of the video: copies of the first clip's first."""
        return steps - self.window

    @property
    def told(self) -> dict[str, Any]:
        """What a step of the queue depends on."""
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
    how: Rolling = Rolling(),  # noqa: B008 (frozen)
    done: Tensor | None = None,
    callback: ProgressCallback | None = None,
) -> Iterator[Tensor]:
    """Yield a video in chunks of `how.chunk` frames, one of which is finished at every step.

    Of the sampling's sampler, the first clip alone makes use: the queue takes DDIM steps with
    `how.eta`. done: the frames that were yielded before an interruption; everything is denoised
    again, and the rest is yielded.
    """
    check_frames(frames, size, sampling, done)
    steps = len(sampling.sigmas) - 1
    how.windows(steps)
    warm_up, ready = how.warm_up(steps), 0 if done is None else done.shape[1]

    def run() -> Iterator[Tensor]:
        if ready == frames:
            return
        queue = start_queue(denoiser_for, size, sampling, how, callback)
        for start in range(0, frames, how.chunk):
            stop = min(start + how.chunk, frames)
            taken = _taken(queue, stop + warm_up, frames + warm_up, callback)
            chunk = taken[:, taken.shape[1] - (stop - start) :]
            if stop > ready:
                yield chunk[:, max(ready - start, 0) :].clone()

    return run()


def _taken(queue: RollingQueue, stop: int, total: int, callback: ProgressCallback | None) -> Tensor:
    """The frames that leave until `stop` of `total` have left.

    A finished chunk is kept together with the queue behind it, from which a run goes on.
    """
    count = stop - queue.left
    numbers = range(queue.number(queue.how.front), queue.number(queue.x.shape[1]) + count)

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
        **queue.how.told, head=queue.head,
    ).to(queue.sampling.device)  # fmt: skip
    queue.left, queue.x = stop, both[:, count:]
    return both[:, :count]


# --------------------------------------------------------------------------------------------------
# The queue.


class RollingQueue:
    """Frames x [b, front + steps, c, h, w], the finished ones in front, then one for each step.

    levels: [front + steps] their sigmas; below: what each of them has after its next step. left:
    frames that have left so far. head: the first clip, where it stays in attention. Frames are
    numbered from the first of the video; those of the warm-up are below 0, and are given to the
    model as frame 0.
    """

    def __init__(self, x: Tensor, denoiser_for: DenoiserFor, sampling: Sampling, how: Rolling):
        self.x, self.denoiser_for, self.sampling, self.how = x, denoiser_for, sampling, how
        self.steps = len(sampling.sigmas) - 1
        rising, clean = sampling.sigmas.flip(0), sampling.sigmas[-1:].expand(how.front)
        self.levels = torch.cat([clean, rising[1:]])
        self.below = torch.cat([clean, rising[:-1]])
        self.windows = how.windows(self.steps)
        self.left = 0
        self.head: Tensor | None = None

    @property
    def planned(self) -> Evaluations:
        """The evaluations that its steps ask for."""
        videos, _, *image = self.x.shape
        return Evaluations(self._condition(self.windows[0].seen), (videos, *image), self.levels)

    def number(self, position: int) -> int:
        """The number of the frame at a position of the queue."""
        return position - self.how.front + self.left - self.how.warm_up(self.steps)

    def step(self) -> None:
        """Take every frame one noise level down; all windows see the frames as they were."""
        x = self.x.clone()
        for seen, updated in self.windows:
            within = slice(updated.start - seen.start, updated.stop - seen.start)
            answer = self._denoised(seen)[:, within]
            x[:, updated.start : updated.stop] = self._stepped(updated, answer)
        self.x = x

    def shift(self) -> Tensor:
        """Take the first frame that is finished out [b 1 c h w], and put noise behind the last."""
        front = self.how.front
        frame = to_vp(self.x[:, front : front + 1], self.sampling.sigmas[-1])
        self.left += 1
        noise = self._noise(self.number(self.x.shape[1] - 1)).initial(frame)
        self.x = torch.cat([self.x[:, 1:], to_ve(noise, self.levels[-1])], dim=1)
        return frame

    def _condition(self, seen: range) -> SegmentCondition:
        numbers = tuple(max(self.number(position), 0) for position in seen)
        return SegmentCondition(frames=numbers, rate=self.how.rate, level="window")

    def _denoised(self, seen: range) -> Tensor:
        """The model's answer for a window, each frame at its own noise level."""
        at = slice(seen.start, seen.stop)
        before = step_under_way.get()
        # Curves over steps read the step that the frame in the middle is in.
        step_under_way.set(StepAt(self._step_of(seen[len(seen) // 2]), self.steps))
        try:
            sigma = self.levels[at].expand(len(self.x), -1)
            return self.denoiser_for(self._condition(seen))(self.x[:, at], sigma)
        finally:
            step_under_way.set(before)

    def _stepped(self, updated: range, denoised: Tensor) -> Tensor:
        """DDIM (Song et al. 2021, eq. 12) with a noise level for each frame."""
        x = self.x[:, updated.start : updated.stop]
        pairs = [(float(self.levels[p]), float(self.below[p])) for p in updated]
        down_up = [ancestral_step(sigma, below, self.how.eta) for sigma, below in pairs]
        kept = [down / sigma for (down, _), (sigma, _) in zip(down_up, pairs, strict=True)]
        x = denoised + broadcast(torch.tensor([kept]), x) * (x - denoised)
        for k, (position, (_, up)) in enumerate(zip(updated, down_up, strict=True)):
            if up > 0:
                source = self._noise(self.number(position))
                x[:, k : k + 1] += up * source(self._step_of(position), x[:, k : k + 1])
        return x

    def _step_of(self, position: int) -> int:
        """The sampling step that the frame at a position is in."""
        return self.steps - 1 - max(position - self.how.front, 0)

    def _noise(self, number: int) -> NoiseSource:
        return self.sampling.noise(len(self.x), (number,))


def start_queue(
    denoiser_for: DenoiserFor,
    size: Size,
    sampling: Sampling,
    how: Rolling,
    callback: ProgressCallback | None = None,
) -> RollingQueue:
    """The queue that begins with a clip of one window: its last frames at the highest levels, and
    its first frame at all those below."""
    condition = SegmentCondition(frames=range(how.window), rate=how.rate)
    clip = sample_segment(
        how.first.denoiser_for or denoiser_for,
        condition,
        size,
        how.first.sampling or sampling,
        callback=reporter(callback, "segment", 0, 1),
    )
    if how.reference is not None:
        denoiser_for = HeldReference(denoiser_for, clip, how.reference, sampling)
    queue = RollingQueue(clip, denoiser_for, sampling, how)
    queue.head = None if how.reference is None else clip
    numbers = [queue.number(p) for p in range(how.front + queue.steps)]
    clean = clip[:, [max(number, 0) for number in numbers]]
    noise = _set_up_noise(clean, numbers, sampling)
    queue.x = clean + broadcast(queue.levels[None], clean) * noise
    return queue


def _set_up_noise(clean: Tensor, numbers: Sequence[int], sampling: Sampling) -> Tensor:
    """Noise that the first clip did not begin with."""
    b, alpha = len(clean), sampling.shared_noise
    noise = sampling.noise(b, numbers).like(clean, stream=SETTING_UP)
    if not alpha:
        return noise
    shared = sampling.noise(b, (0,)).like(clean[:, :1], stream=f"{SETTING_UP}, shared")
    return mixed_noise(noise, shared, alpha)
