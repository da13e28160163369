"""How Stable Video Diffusion is sampled as published: Euler steps down Karras' noise levels, the
guidance rising from the first frame to the last."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..diffusion.denoiser import Denoiser
from ..diffusion.guidance import guided, per_frame_scale
from ..diffusion.samplers import Callback, sample_euler
from ..diffusion.schedules import get_sigmas_karras
from ..networks.conditions import AUGMENTATION, FPS_ID, MOTION, Conditions
from ..networks.diffusion_model import DiffusionModel

RHO = 7.0


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a video starts from.

    embedding: the image's, [b 1 d] (CLIP, projected). latents: of the image with its augmentation,
    the posterior's mode, not scaled, [b c h w]. fps, motion, augmentation: of each video, or one
    number for all.
    """

    embedding: Tensor
    latents: Tensor
    fps: float = 7
    motion: float = 127
    augmentation: float = 0.02

    def conditions(self, frames: int) -> Conditions:
        """The same for every one of `frames` frames."""
        return Conditions(
            image=self.embedding,
            concatenated=self.latents[:, None].expand(-1, frames, -1, -1, -1),
            ids={
                # The original counts frames per second from 0.
                FPS_ID: torch.tensor([float(self.fps - 1)]),
                MOTION: torch.tensor([float(self.motion)]),
                AUGMENTATION: torch.tensor([float(self.augmentation)]),
            },
        )

    def without_image(self) -> Start:
        """What guidance goes away from: no image, but the same numbers."""
        return Start(
            embedding=torch.zeros_like(self.embedding),
            latents=torch.zeros_like(self.latents),
            fps=self.fps,
            motion=self.motion,
            augmentation=self.augmentation,
        )


def sigmas(model: DiffusionModel, steps: int) -> Tensor:
    """The noise levels [steps + 1] of the model's range, 0 at the end."""
    known = model.preconditioning
    return get_sigmas_karras(steps, known.sigma_min, known.sigma_max, RHO)


def denoiser(
    model: DiffusionModel, start: Start, frames: int, *, first_scale: float, last_scale: float
) -> Denoiser:
    """denoiser(x [b t c h w], sigma), guided by `first_scale` at the first frame and linearly on to
    `last_scale` at the last."""
    with_image = model.denoiser(start.conditions(frames))
    without = model.denoiser(start.without_image().conditions(frames))
    return guided(with_image, without, per_frame_scale(first_scale, last_scale, frames))


def image_to_video(
    model: DiffusionModel,
    start: Start,
    noise: Tensor,
    *,
    steps: int = 25,
    first_scale: float = 1.0,
    last_scale: float = 2.5,
    callback: Callback | None = None,
) -> Tensor:
    """Latents [b t c h w] of the video, scaled, from standard normal `noise` of their shape.

    As published for 14 frames; for 25 it is 30 steps and a guidance from 1.5 to 3.
    """
    levels = sigmas(model, steps)
    scales = dict(first_scale=first_scale, last_scale=last_scale)
    x = noise * math.sqrt(1 + float(levels[0]) ** 2)
    return sample_euler(denoiser(model, start, noise.shape[1], **scales), x, levels,
                        callback=callback)  # fmt: skip
