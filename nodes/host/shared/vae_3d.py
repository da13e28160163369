"""The VAE of an autoencoder that compresses time, too: the standalone host's, and the core of this
pack's in ComfyUI. Latents on wires have a time axis (5-D)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from ....core.networks.autoencoder_3d import Autoencoder3D
from ..tensors import images_from, pixels_of
from .misfits import check_latents_fit

CHUNK = 64
"""Frames encoded at a time; a frame's latents depend slightly on where chunks are cut."""


@dataclass(frozen=True)
class VideoVAE3D:
    """Latents on wires are raw: not scaled for the diffusion model."""

    module: Autoencoder3D

    @property
    def factor(self) -> int:
        return self.module.config.factors[1]

    @property
    def temporal_factor(self) -> int:
        return self.module.temporal_factor

    @property
    def latent_channels(self) -> int:
        return self.module.config.latent_channels

    @property
    def reach(self) -> int | None:
        return self.module.reach

    @property
    def like(self) -> Tensor:
        """A weight, for the autoencoder's device and dtype."""
        return self.module.mix_latents.conv.weight

    # ComfyUI's methods, on its layouts.

    def encode(self, images: Tensor) -> Tensor:
        """Raw latents [1, c, t, h, w] of an IMAGE."""
        latents = self.encode_video(pixels_of(images).to(self.like.device))
        return rearrange(latents, "b t c h w -> b c t h w")

    def decode(self, samples: Tensor) -> Tensor:
        """An IMAGE of raw latents [b, c, t, h, w], or [t, c, h, w] of one video."""
        pattern = "t c h w -> 1 t c h w" if samples.ndim == 4 else "b c t h w -> b t c h w"
        return images_from(self(rearrange(samples, pattern).to(self.like.device)))

    # Core's layouts.

    @torch.no_grad()
    def encode_video(self, pixels: Tensor) -> Tensor:
        """Raw latents [b, t / n, c, h / f, w / f], float32, of pixels [b, t, 3, h, w] in [-1, 1];
        n = temporal_factor, f = factor.

        Raises ValueError for a t, h or w that these do not divide, naming the nearest t that fit.
        """
        self.module.check_fits(pixels)
        chunk = CHUNK - CHUNK % self.temporal_factor
        parts = [self.module.encode(part.to(self.like)) for part in pixels.split(chunk, dim=1)]
        return self.module.unscaled(torch.cat(parts, dim=1)).float()

    @torch.no_grad()
    def __call__(self, raw: Tensor) -> Tensor:
        """Pixels [b, n t, 3, f h, f w], float32, of raw latents [b, t, c, h, w]."""
        check_latents_fit(raw.shape[2], self.latent_channels, vae=True)
        return self.module(self.module.scaled(raw).to(self.like)).float()
