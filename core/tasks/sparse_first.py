"""Sparse first: a few frames of a segment are sampled alone, then all frames between them.

The first sampling steps decide what a segment shows, and a few frames spread over it decide it more
reliably than all together: training on few frames costs a fraction. Given the sparse frames, the
others need only a few steps. These start from the same noise in every frame and add none, because
differences in noise between frames would remain as flicker. Finally, all frames are denoised
together for one step, because the sparse frames differ a little from those between them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import inf

import torch
from torch import Tensor

from ..diffusion.samplers import sample_euler
from ..diffusion.schedules import NoiseSchedule, get_sigmas_at
from ..graph.wording import counted
from ..networks.context_frames import given_frames
from .interpolation import blended
from .segment import (
    DenoiserFor,
    ProgressCallback,
    Reports,
    Sampling,
    SegmentCondition,
    Size,
    check_frames,
    reports_of,
    sample_segment,
)

TOGETHER = 0.3
"""Where the last step, of all frames together, begins, as a fraction of the forward process."""
STAGE = "sparse frames"


def last_step(schedule: NoiseSchedule) -> Tensor:
    """The sigmas [2] of a single step from the level TOGETHER of a schedule."""
    return get_sigmas_at(schedule, torch.tensor([TOGETHER * (schedule.steps - 1)]).double())


def spread_evenly(frames: int, sparse: int) -> list[int]:
    """The numbers of `sparse` frames spread evenly from the first to the last of `frames`.

    Raises ValueError unless there are at least 2 sparse frames and as many frames.
    """
    if not 2 <= sparse <= frames:
        segment, given = counted(frames, "frame"), counted(sparse, "sparse frame")
        raise ValueError(f"A segment of {segment} cannot have {given}.")
    return [round(i * (frames - 1) / (sparse - 1)) for i in range(sparse)]


@dataclass(frozen=True, kw_only=True)
class SparseFirst:
    """How many frames of a segment are sampled first, and how the others are filled in.

    denoiser_for: for filling in, the same model without guidance: sparse frames leave little to
    decide, and guidance would pull each frame away from its neighbours. sampling: for filling in,
    by Euler's method whatever its sampler. from_blend: fill in from linear blends of the sparse
    frames, noised to the first sigma, which is then low, instead of from noise alone. together:
    sigmas of a final, short sampling of all frames without context, see `last_step`; None = none.
    """

    count: int
    denoiser_for: DenoiserFor
    sampling: Sampling
    from_blend: bool = False
    together: Tensor | None = None

    def check(self, frames: int) -> None:
        """Raise ValueError unless a segment of `frames` frames can be sampled this way."""
        spread_evenly(frames, self.count)

    def __call__(
        self,
        denoiser_for: DenoiserFor,
        condition: SegmentCondition,
        size: Size,
        sampling: Sampling,
        reports: Reports,
    ) -> Tensor:
        """Sample the latents [b t c h w] of a segment without context frames.

        denoiser_for, sampling: of the sparse frames; the model was trained on frames that lie
        apart, and on context frames anywhere in a segment. reports: the sampler's callback for the
        stages "sparse frames", the condition's level and "together".
        """
        total = len(condition.frames)
        at = spread_evenly(total, self.count)
        frames = [condition.frames[i] for i in at]
        apart = replace(condition, frames=frames, times=at, level=STAGE)
        sparse = sample_segment(denoiser_for, apart, size, sampling, callback=reports(STAGE))
        return self._fill(sparse, at, condition, reports)

    def _fill(
        self, sparse: Tensor, at: list[int], condition: SegmentCondition, reports: Reports
    ) -> Tensor:
        """All frames, from the sparse ones [b k c h w] at the positions `at`."""
        size = len(sparse), *sparse.shape[2:]
        rest = replace(condition, context=given_frames(sparse, at, len(condition.frames)))
        steady = replace(self.sampling, sampler=sample_euler, shared_noise=inf)
        x0, report = blended(sparse, at) if self.from_blend else None, reports(condition.level)
        video = sample_segment(self.denoiser_for, rest, size, steady, x0=x0, callback=report)
        if self.together is None:
            return video
        steady, report = replace(steady, sigmas=self.together), reports("together")
        return sample_segment(self.denoiser_for, condition, size, steady, x0=video, callback=report)


def sparse_first(
    denoiser_for: DenoiserFor,
    size: Size,
    sampling: Sampling,
    frames: int,
    first: SparseFirst,
    *,
    done: Tensor | None = None,
    callback: ProgressCallback | None = None,
) -> Iterator[Tensor]:
    """Yield one segment of `frames` frames from noise; size is (b, c, h, w) of its latents.

    denoiser_for, sampling: of the frames that are sampled first. done: the segment itself if it is
    finished, in which case nothing is yielded.
    """
    check_frames(frames, size, sampling, done)
    first.check(frames)

    def run() -> Iterator[Tensor]:
        if done is None or done.shape[1] < frames:
            condition = SegmentCondition(frames=range(frames))
            yield first(denoiser_for, condition, size, sampling, reports_of(callback))

    return run()
