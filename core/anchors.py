"""Anchors: a few frames of a clip that are made first, from nothing, before the frames between.

What a clip shows is decided in the first steps of sampling, and a few frames spread over it decide
it more surely than all of them together: models are trained on few frames for a fraction of the
work. With the anchors given, the other frames follow in few steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from .clip_condition import ClipCondition, DenoiserFor, Sampling, Size, sample_clip
from .context_frames import given_frames
from .interpolation import blended
from .sampling import Callback


@dataclass(frozen=True, kw_only=True)
class Anchors:
    """How many frames of a clip are made first, and how.

    from_blend: the frames between start from linear blends of the anchors, noised to the first
    sigma of their sampling, which then begins low, instead of from noise alone. denoiser_for: where
    clips from nothing have a model of their own, that model; None for that of all clips. It must
    have been trained on frames that lie apart, and on given frames anywhere in a clip.
    """

    count: int
    sampling: Sampling
    from_blend: bool = False
    denoiser_for: DenoiserFor | None = None


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

    report: the sampler's callback for the stage "anchors", then for the condition's level.
    """
    at = spread_evenly(len(condition.frames), anchors.count)
    frames = [condition.frames[i] for i in at]
    model = anchors.denoiser_for or denoiser_for
    apart = replace(condition, frames=frames, times=at, level="anchors")
    made = sample_clip(model, apart, size, anchors.sampling, callback=report("anchors"))
    rest = replace(condition, context=given_frames(made, at, len(condition.frames)))
    x0 = blended(made, at) if anchors.from_blend else None
    return sample_clip(model, rest, size, sampling, x0=x0, callback=report(condition.level))
