"""A VAE with an image decoder or a temporal one: the standalone host's VAE, and the core of this
pack's VAE in ComfyUI."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL
from einops import rearrange
from torch import Tensor

from ....core.networks.autoencoder import TemporalDecoder, decode_frames, encode, scaled, unscaled
from ..tensors import images_from, pixels_of
from .misfits import check_latents_fit


@dataclass(frozen=True)
class VideoVAE:
    """An image autoencoder, a temporal decoder, or both. Latents on wires are raw (unscaled)."""

    autoencoder: AutoencoderKL | None
    temporal: TemporalDecoder | None = None

    def __post_init__(self) -> None:
        if self.autoencoder is None and self.temporal is None:
            raise ValueError("a VAE needs an image autoencoder or a temporal decoder, got none")

    @property
    def _any(self) -> AutoencoderKL:
        return self.temporal.autoencoder if self.temporal is not None else self.autoencoder

    @property
    def factor(self) -> int:
        return 2 ** (len(self._any.config.block_out_channels) - 1)

    @property
    def latent_channels(self) -> int:
        return self._any.config.latent_channels

    @property
    def reach(self) -> int | None:
        return self.temporal.reach if self.temporal is not None else 0

    @property
    def temporal_factor(self) -> int:
        """Frames per latent frame."""
        return self.temporal.temporal_factor if self.temporal is not None else 1

    @property
    def like(self) -> Tensor:
        """A weight, for the autoencoder's device and dtype."""
        return self._any.decoder.conv_in.weight

    # ComfyUI's methods, on its layouts.

    def encode(self, images: Tensor) -> Tensor:
        """Raw latents [T, c, h, w] of an IMAGE."""
        return self.encode_video(pixels_of(images).to(self.like.device))[0]

    def decode(self, samples: Tensor) -> Tensor:
        """An IMAGE of raw latents [T, c, h, w]; for a temporal decoder they are one video."""
        return images_from(self(rearrange(samples, "t c h w -> 1 t c h w").to(self.like.device)))

    # Core's layouts.

    @torch.no_grad()
    def encode_video(self, pixels: Tensor, *, chunk: int = 16) -> Tensor:
        """Raw latents [b, t, c, h, w], float32, of pixels [b, t, 3, f h, f w] in [-1, 1]."""
        if self.autoencoder is None or not hasattr(self.autoencoder, "encoder"):
            raise ValueError(
                "this VAE has a decoder and no encoder: connect the VAE that was loaded with the "
                "image model"
            )
        latents = encode(self.autoencoder, pixels.to(self.like), chunk=chunk)
        return unscaled(self.autoencoder, latents).float()

    @torch.no_grad()
    def __call__(self, raw: Tensor) -> Tensor:
        """Pixels [b, t, 3, f h, f w], float32, of raw latents [b, t, c, h, w]."""
        check_latents_fit(raw.shape[2], self.latent_channels, vae=True)
        latents = scaled(self._any, raw).to(self.like)
        decode = self.temporal or (lambda x: decode_frames(self.autoencoder, x))
        return decode(latents).float()
