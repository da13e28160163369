"""What a published file of a video model may hold beside its U-Net."""

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

    autoencoder: of images, of which the encoder may be all that is used, or of videos. decoder:
    with temporal layers. image_encoder: whose projected embedding is the one token of prompts that
    are images, or, where there is a resampler, whose last hidden state that turns into tokens.
    """

    model: DiffusionModel
    autoencoder: AutoencoderKL | Autoencoder3D | None = None
    decoder: VideoDecoder | None = None
    image_encoder: CLIPVisionModelWithProjection | CLIPVisionModel | None = None
    text: TextModel | None = None
    resampler: ImageResampler | None = None
