"""Anchors: a few frames of a clip that are made first, from nothing, before the frames between.

What a clip shows is decided in the first steps of sampling, and a few frames spread over it decide
it more surely than all of them together: models are trained on few frames for a fraction of the
work. With the anchors given, the other frames follow in few steps, all from the same noise and with
none added on the way: what differs in the noise of two frames would be left in them as flicker. In
the end all frames, the anchors too, are denoised together for a step, since anchors differ a little
from what is between.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf

import torch
from torch import Tensor

from .clip_condition import ClipCondition, DenoiserFor, Sampling, Size, sample_clip
from .context_frames import given_frames
from .interpolation import blended
from .sampling import Callback, sample_euler
from .schedules import NoiseSchedule, get_sigmas_at

TOGETHER = 0.3
"""Part of the forward process that the last step, of all frames together, goes back."""


@dataclass(frozen=True, kw_only=True)
class Anchors:
    """How many frames of a clip are made first, and how.

    between: denoisers of the frames between, of the same model without guidance: anchors leave
    little to decide, and guidance would part each frame from its neighbours.
    from_blend: these start from linear blends of the anchors, noised to the first sigma of their
    sampling, which then begins low, instead of from noise alone. together: the sigmas of a last,
    short sampling of all frames with none given, see `last_step`; None = none.
    """

    count: int
    sampling: Sampling
    between: DenoiserFor
    from_blend: bool = False
    together: Tensor | None = None


def last_step(schedule: NoiseSchedule) -> Tensor:
    """Sigmas [2] of one step from the level TOGETHER of a schedule."""
    return get_sigmas_at(schedule, torch.tensor([TOGETHER * (schedule.steps - 1)]).double())


def spread_evenly(frames: int, anchors: int) -> list[int]:
    """The numbers of `anchors` frames from the first to the last of `frames`, evenly spread.

    Raises ValueError unless there are at least 2 anchors and as many frames.
    """
    if not 2 <= anchors <= frames:
        raise ValueError(f"A clip of {frames} frames cannot have {anchors} anchors.")
    return [round(i * (frames - 1) / (anchors - 1)) for i in range(anchors)]


def sample_from_anchors(
    denoiser_for: DenoiserFor,
    condition: ClipCondition,
    size: Size,
    sampling: Sampling,
    anchors: Anchors,
    *,
    report: Callable[[str], Callback | None] = lambda stage: None,
) -> Tensor:
    """Sample the latents [b t c h w] of a clip that is given no frames.

    denoiser_for: of the anchors; its model was trained on frames that lie apart, and on given
    frames anywhere in a clip. sampling: of the frames between, which take its sigmas in Euler's
    steps whatever its sampler. report: the sampler's callback for the stage "anchors", for the
    condition's level and for "together".
    """
    at = spread_evenly(len(condition.frames), anchors.count)
    frames = [condition.frames[i] for i in at]
    apart = replace(condition, frames=frames, times=at, level="anchors")
    made = sample_clip(denoiser_for, apart, size, anchors.sampling, callback=report("anchors"))
    rest = replace(condition, context=given_frames(made, at, len(condition.frames)))
    x0 = blended(made, at) if anchors.from_blend else None
    steady = replace(sampling, sampler=sample_euler, shared_noise=inf)
    callback = report(condition.level)
    clip = sample_clip(anchors.between, rest, size, steady, x0=x0, callback=callback)
    if anchors.together is None:
        return clip
    steady = replace(steady, sigmas=anchors.together)
    callback = report("together")
    return sample_clip(anchors.between, condition, size, steady, x0=clip, callback=callback)
