"""Scaling of an autoencoder's latents to the unit variance that diffusion models work on."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class LatentScale(NamedTuple):
    """scaled = (raw - shift) * scale."""

    scale: float
    shift: float = 0.0

    def scaled(self, raw: Tensor) -> Tensor:
        """Latents of about unit variance from the autoencoder's."""
        return (raw - self.shift) * self.scale

    def unscaled(self, latents: Tensor) -> Tensor:
        """Inverse of :meth:`scaled`."""
        return latents / self.scale + self.shift
