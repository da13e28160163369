"""The VAE of a video model's file, whatever kind of autoencoder that holds."""

from __future__ import annotations

from ....core.families.video_parts import VideoParts
from ....core.networks.autoencoder_3d import Autoencoder3D
from .missing_parts import NO_VAE, MissingPart
from .vae import VideoVAE
from .vae_3d import VideoVAE3D


def video_vae(found: VideoParts, file: str) -> VideoVAE | VideoVAE3D | MissingPart:
    """Without an autoencoder, a part that says so when it is used."""
    if isinstance(found.autoencoder, Autoencoder3D):
        return VideoVAE3D(found.autoencoder)
    if found.autoencoder is None and found.decoder is None:
        return MissingPart(NO_VAE.format(file))
    return VideoVAE(found.autoencoder, found.decoder)
