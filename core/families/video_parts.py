"""A video model, with what its published file may hold beside the U-Net."""

from __future__ import annotations

from dataclasses import dataclass

from diffusers import AutoencoderKL
from transformers import CLIPVisionModel, CLIPVisionModelWithProjection

from ..networks.autoencoder_3d import Autoencoder3D
from ..networks.diffusion_model import DiffusionModel
from ..networks.image_resampler import ImageResampler
from ..networks.temporal_decoder import VideoDecoder
from .stable_diffusion_text import TextModel


@dataclass(frozen=True, kw_only=True)
class VideoParts:
    """A whole video model; None for what the file does not hold.

    autoencoder: of images, possibly only for encoding, or of videos. decoder: with temporal layers.
    image_encoder: for image prompts; its projected embedding is their only token or, if there is a
    resampler, that turns its last hidden state into tokens.
    """

    model: DiffusionModel
    autoencoder: AutoencoderKL | Autoencoder3D | None = None
    decoder: VideoDecoder | None = None
    image_encoder: CLIPVisionModelWithProjection | CLIPVisionModel | None = None
    text: TextModel | None = None
    resampler: ImageResampler | None = None
