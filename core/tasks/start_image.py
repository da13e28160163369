"""Videos that begin with an image (Stable Video Diffusion, section 4.2): every frame is conditioned
on the image's tokens and latents, and on numbers that describe the motion."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..networks.conditions import AUGMENTATION, FPS_ID, MOTION, Conditions


@dataclass(frozen=True, kw_only=True)
class StartImage:
    """The start image and its micro-conditioning.

    embedding: of the image, [b 1 d] (CLIP, projected). latents: of the image with noise
    augmentation, the posterior's mode, not scaled, [b c h w], or [b t c h w] with one per frame.
    fps, motion, augmentation: frames per second, motion bucket, and the level of that noise; the
    same for all videos.
    """

    embedding: Tensor
    latents: Tensor
    fps: float = 7
    motion: float = 127
    augmentation: float = 0.02

    def conditions(self, frames: int) -> Conditions:
        """For a segment of `frames` frames; ValueError for latents of another number of frames."""
        latents = self.latents if self.latents.ndim == 5 else self.latents[:, None]
        if latents.shape[1] not in (1, frames):
            raise ValueError(
                f"{latents.shape[1]} start images do not fit a segment of {frames} frames: give 1"
            )
        return Conditions(
            image=self.embedding,
            concatenated=latents.expand(-1, frames, -1, -1, -1),
            ids={
                # The original was trained with fps - 1.
                FPS_ID: torch.tensor([float(self.fps - 1)]),
                MOTION: torch.tensor([float(self.motion)]),
                AUGMENTATION: torch.tensor([float(self.augmentation)]),
            },
        )

    def without_image(self) -> StartImage:
        """The unconditional side of guidance: no image, but the same numbers."""
        return replace(
            self,
            embedding=torch.zeros_like(self.embedding),
            latents=torch.zeros_like(self.latents),
        )
