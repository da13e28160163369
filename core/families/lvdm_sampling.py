"""LVDM's own sampling: its DDIM, and its script for long videos with that script's mistakes.

The script predicts key frames four latent frames apart and fills in what lies between them, as
:func:`..tasks.long_video.hierarchical` does. It tells the network that all frames of a predicted
window are given, though only the first ones are, and fills in a third of the gaps alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from ..diffusion.denoiser import Denoiser, to_vp
from ..diffusion.schedules import NoiseSchedule
from ..networks.conditions import Conditions
from ..networks.context_frames import ContextFrames
from ..networks.diffusion_model import DiffusionModel
from ..tasks.interpolation import interpolate
from ..tasks.long_video import Between, Continuation, prediction
from ..tasks.segment import ContextUse, DenoiserFor, Perturbation, Sampling, SegmentCondition, Size
from .factorised_sampling import DdimPlan, ddim_plan

LEVEL, SCALE, CONTEXT = 100, 0.1, 1
"""Of the long-video script: step that given frames are noised to, its scale of guidance in the form
"cfg_original", and how many key frames a window is given."""


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


def all_told_given(model: DiffusionModel) -> DenoiserFor:
    """Denoisers that are told of all frames as given where some are. Use it with frames in place:
    what it is told of is what x holds."""

    def denoiser_for(condition: SegmentCondition) -> Denoiser:
        given = condition.context
        if given is None or not bool(given.mask.any()):
            return model.denoiser(Conditions())

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            told = ContextFrames(
                latents=to_vp(x, sigma),
                mask=torch.ones_like(given.mask),
                noise_level=given.noise_level,
            )
            return model.denoiser(Conditions(context=told))(x, sigma)

        return denoise

    return denoiser_for


def filled_keys(keys: int) -> int:
    """How many of the key frames, from the first, the script fills in between."""
    return len(range(0, keys - 3, 3)) + 1


def shipped_long_video(
    predicting: DiffusionModel, size: Size, sampling: Sampling, keys: int, between: Between
) -> Iterator[Tensor]:
    """Yield the latents of the shipped script's video, 4 (filled_keys(keys) - 1) + 1 of them.

    keys: of predicted key frames. between: of the interpolation model, whose `use` serves for both.
    """
    spacing = 4
    how = Continuation(window=4, context=CONTEXT, use=between.use, spacing=spacing, level="keys")
    found = torch.cat(
        list(prediction(all_told_given(predicting), size, sampling, keys, how=how)), dim=1
    )
    filling = replace(between, window_keys=2, passes=1).interpolation(keys)
    yield from interpolate(
        between.denoiser_for,
        found[:, : filled_keys(keys)],
        between.sampling or sampling,
        how=filling,
    )
