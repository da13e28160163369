"""LVDM's own sampling: its DDIM, and its script for long videos with that script's mistakes.

The script predicts key frames four latent frames apart and fills in what lies between them, as
:func:`..tasks.long_video.hierarchical` does. It tells the network that all frames of a predicted
window are given, though only the first ones are, and fills in a third of the gaps alone.
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
"""Of the long-video script: step that given frames are noised to, its scale of guidance in the form
"cfg_original", key frames of a window, and how many of them are given."""


def published_plan(trained: str, sampler: str, steps: int, schedule: NoiseSchedule) -> DdimPlan:
    """The scripts' DDIM with its noise, eta 1; ValueError for other samplers."""
    if sampler != "ddim":
        raise ValueError(f"{trained} was published with ddim, not with {sampler}")
    return ddim_plan(schedule, steps)


def context_use(
    schedule: NoiseSchedule, level: int = LEVEL, scale: float = 1 + SCALE
) -> ContextUse:
    """How given frames act in the script: perturbed, in the sampler's own x, and guided by."""
    return ContextUse(
        scale=scale,
        perturbation=Perturbation(level=level, schedule=schedule) if level else None,
        in_place=True,
    )


# --------------------------------------------------------------------------------------------------
# The script as it was shipped.


@dataclass(frozen=True)
class AllToldGiven(ScopedDenoisers):
    """Denoisers that are told of all frames as given where some are. Use it with frames in place:
    what it is told of is what x holds."""

    denoiser_for: DenoiserFor

    def __call__(self, condition: SegmentCondition) -> Denoiser:
        given = condition.context
        if given is None or not bool(given.mask.any()):
            return self.denoiser_for(condition)

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            told = ContextFrames(
                latents=to_vp(x, sigma),
                mask=torch.ones_like(given.mask),
                noise_level=given.noise_level,
            )
            return self.denoiser_for(replace(condition, context=told))(x, sigma)

        return denoise

    def sampling(self, planned: Evaluations, run: Callable[[], Tensor]) -> Tensor:
        return in_scope(self.denoiser_for, planned, run)


def filled_keys(keys: int) -> int:
    """How many of the key frames, from the first, the script fills in between."""
    return len(range(0, keys - 3, 3)) + 1


def script_keys(frames: int) -> int:
    """Key frames that the script predicts for a video of `frames` latent frames: enough of them if
    all gaps were filled in, in whole windows."""
    needed = -(-(frames + 3) // 4)
    windows = max(0, -(-(needed - WINDOW) // (WINDOW - CONTEXT)))
    return WINDOW + windows * (WINDOW - CONTEXT)


def shipped_length(frames: int) -> int:
    """Latent frames that the script makes where `frames` are asked for."""
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

    frames: asked for, in latent frames. between: of the interpolation model, whose `use` serves
    for both.
    """
    spacing, keys = 4, script_keys(frames)
    how = Continuation(
        window=WINDOW, context=CONTEXT, use=between.use, spacing=spacing, level="keys"
    )
    predicted = prediction(
        AllToldGiven(denoiser_for), size, sampling, keys, how=how, callback=callback
    )
    found = torch.cat(list(predicted), dim=1)
    filling = replace(between, window_keys=2, passes=1)
    yield from interpolate(
        between.denoiser_for or denoiser_for,
        found[:, : filled_keys(keys)],
        between.sampling or sampling,
        how=filling.interpolation(keys),
        callback=callback,
    )


SCRIPT = LongVideoScript(
    window=WINDOW, context=CONTEXT, passes=1, made=shipped_length, run=shipped_long_video
)
