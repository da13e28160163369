"""The VAE in a video model's file, of any kind of autoencoder."""

from __future__ import annotations

from ....core.families.video_parts import VideoParts
from ....core.networks.autoencoder_3d import Autoencoder3D
from .missing_parts import NO_VAE, MissingPart
from .vae import VideoVAE
from .vae_3d import VideoVAE3D


def video_vae(found: VideoParts, file: str) -> VideoVAE | VideoVAE3D | MissingPart:
    """The VAE of these parts; a placeholder that raises when it is used if `file` holds none."""
    if isinstance(found.autoencoder, Autoencoder3D):
        return VideoVAE3D(found.autoencoder)
    if found.autoencoder is None and found.decoder is None:
        return MissingPart(NO_VAE.format(file))
    return VideoVAE(found.autoencoder, found.decoder)
