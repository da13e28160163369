"""LVDM's own sampling: its DDIM, and its script for long videos, mistakes included.

Like :func:`..tasks.long_video.hierarchical`, the script predicts key frames four latent frames
apart and then interpolates between them. But it marks all frames of a predicted window as given,
though only the first ones are, and it interpolates only a third of the gaps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..diffusion.denoiser import Denoiser, to_vp
from ..diffusion.schedules import NoiseSchedule
from ..networks.context_frames import ContextFrames
from ..tasks.interpolation import interpolate, interpolated_frames
from ..tasks.long_video import Between, Continuation, prediction
from ..tasks.long_video_script import LongVideoScript
from ..tasks.segment import (
    ContextUse,
    DenoiserFor,
    Evaluations,
    Perturbation,
    ProgressCallback,
    Sampling,
    ScopedDenoisers,
    SegmentCondition,
    Size,
    in_scope,
)
from .factorised_sampling import DdimPlan, ddim_plan

LEVEL, SCALE, WINDOW, CONTEXT = 100, 0.1, 4, 1
"""Of the long-video script: the timestep that given frames are noised to, the guidance scale in the
form "cfg_original", key frames per window, and how many of them are given."""


def published_plan(trained: str, sampler: str, steps: int, schedule: NoiseSchedule) -> DdimPlan:
    """The scripts' DDIM with eta 1; ValueError for other samplers."""
    if sampler != "ddim":
        raise ValueError(f"{trained} was published with ddim, not with {sampler}")
    return ddim_plan(schedule, steps)


def context_use(
    schedule: NoiseSchedule, level: int = LEVEL, scale: float = 1 + SCALE
) -> ContextUse:
    """How the script uses given frames: noised to timestep `level`, in place in the sampler's x,
    and with context guidance."""
    return ContextUse(
        scale=scale,
        perturbation=Perturbation(level=level, schedule=schedule) if level else None,
        in_place=True,
    )


# --------------------------------------------------------------------------------------------------
# The script as it was shipped.


@dataclass(frozen=True)
class AllFramesGiven(ScopedDenoisers):
    """Denoisers that mark all frames as given if any is. Use with given frames in place: the
    network gets x itself as the given latents."""

    denoiser_for: DenoiserFor

    def __call__(self, condition: SegmentCondition) -> Denoiser:
        given = condition.context
        if given is None or not bool(given.mask.any()):
            return self.denoiser_for(condition)

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            context = ContextFrames(
                latents=to_vp(x, sigma),
                mask=torch.ones_like(given.mask),
                noise_level=given.noise_level,
            )
            return self.denoiser_for(replace(condition, context=context))(x, sigma)

        return denoise

    def sampling(self, planned: Evaluations, run: Callable[[], Tensor]) -> Tensor:
        return in_scope(self.denoiser_for, planned, run)


def filled_keys(keys: int) -> int:
    """The number of key frames, from the first, that the script interpolates between."""
    return len(range(0, keys - 3, 3)) + 1


def script_keys(frames: int) -> int:
    """Key frames that the script predicts for `frames` latent frames: whole windows of them, enough
    if all gaps were interpolated."""
    needed = -(-(frames + 3) // 4)
    windows = max(0, -(-(needed - WINDOW) // (WINDOW - CONTEXT)))
    return WINDOW + windows * (WINDOW - CONTEXT)


def shipped_length(frames: int) -> int:
    """Latent frames that the script makes when asked for `frames`."""
    return interpolated_frames(filled_keys(script_keys(frames)))


def shipped_long_video(
    denoiser_for: DenoiserFor,
    size: Size,
    sampling: Sampling,
    frames: int,
    between: Between,
    callback: ProgressCallback | None = None,
) -> Iterator[Tensor]:
    """Yield the latents of the shipped script's video, :func:`shipped_length` of them.

    frames: requested, in latent frames. between: the interpolation model; its `use` also serves for
    prediction.
    """
    spacing, keys = 4, script_keys(frames)
    continuation = Continuation(
        window=WINDOW, context=CONTEXT, use=between.use, spacing=spacing, level="keys"
    )
    predicted = prediction(
        AllFramesGiven(denoiser_for), size, sampling, keys, settings=continuation, callback=callback
    )
    found = torch.cat(list(predicted), dim=1)
    filling = replace(between, window_keys=2, passes=1)
    yield from interpolate(
        between.denoiser_for or denoiser_for,
        found[:, : filled_keys(keys)],
        between.sampling or sampling,
        settings=filling.interpolation(keys),
        callback=callback,
    )


SCRIPT = LongVideoScript(
    window=WINDOW, context=CONTEXT, passes=1, made=shipped_length, run=shipped_long_video
)
