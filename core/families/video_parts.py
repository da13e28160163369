"""What a published file of a video model may hold beside its U-Net."""

from __future__ import annotations

from dataclasses import dataclass

from diffusers import AutoencoderKL
from transformers import CLIPVisionModelWithProjection

from ..networks.diffusion_model import DiffusionModel
from ..networks.temporal_decoder import VideoDecoder


@dataclass(frozen=True, kw_only=True)
class VideoParts:
    """A whole video model; None for what the file does not hold.

    autoencoder: of images, of which the encoder may be all that is used. decoder: with temporal
    layers. image_encoder: whose projected embedding is the one token of prompts that are images.
    """

    model: DiffusionModel
    autoencoder: AutoencoderKL | None = None
    decoder: VideoDecoder | None = None
    image_encoder: CLIPVisionModelWithProjection | None = None
