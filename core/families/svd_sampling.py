"""Stable Video Diffusion's published sampling: Euler steps over Karras' noise levels, with guidance
that rises from the first frame to the last."""

from __future__ import annotations

import math

from torch import Tensor

from ..diffusion.denoiser import Denoiser
from ..diffusion.guidance import guided, per_frame_scale
from ..diffusion.samplers import Callback, sample_euler
from ..diffusion.sampling_plan import Plan
from ..diffusion.schedules import NoiseRange, get_sigmas_karras
from ..networks.diffusion_model import DiffusionModel
from ..tasks.start_image import StartImage

RHO = 7.0
RANGE = NoiseRange(sigma_min=0.002, sigma_max=700.0)
"""Published range of noise levels."""


def published_plan(trained: str, sampler: str, steps: int) -> Plan:
    """Euler steps over Karras' noise levels. Raises ValueError for other samplers."""
    if sampler != "euler":
        raise ValueError(f"{trained} was published with euler, not with {sampler}")
    levels = get_sigmas_karras(steps, RANGE.sigma_min, RANGE.sigma_max, RHO)
    return Plan(schedule=RANGE, sampler=sample_euler, sigmas=levels, signal_variance=True)


def sigmas(model: DiffusionModel, steps: int) -> Tensor:
    """The noise levels [steps + 1] over the model's range, then 0."""
    known = model.preconditioning
    return get_sigmas_karras(steps, known.sigma_min, known.sigma_max, RHO)


def denoiser(
    model: DiffusionModel, start: StartImage, frames: int, *, first_scale: float, last_scale: float
) -> Denoiser:
    """denoiser(x [b t c h w], sigma), with guidance that changes linearly from `first_scale` at the
    first frame to `last_scale` at the last."""
    with_image = model.denoiser(start.conditions(frames))
    without = model.denoiser(start.without_image().conditions(frames))
    return guided(with_image, without, per_frame_scale(first_scale, last_scale, frames))


def image_to_video(
    model: DiffusionModel,
    start: StartImage,
    noise: Tensor,
    *,
    steps: int = 25,
    first_scale: float = 1.0,
    last_scale: float = 2.5,
    callback: Callback | None = None,
) -> Tensor:
    """Scaled latents [b t c h w] of the video, from standard normal `noise` of their shape.

    The defaults are as published for 14 frames; for 25 frames it is 30 steps and guidance from 1.5
    to 3.
    """
    levels = sigmas(model, steps)
    scales = dict(first_scale=first_scale, last_scale=last_scale)
    x = noise * math.sqrt(1 + float(levels[0]) ** 2)
    return sample_euler(denoiser(model, start, noise.shape[1], **scales), x, levels,
                        callback=callback)  # fmt: skip
