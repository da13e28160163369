"""The registry of image models and their parts, as hosts load them.

Files with this project's header belong to the embedded family; all others are published ones,
single files or diffusers folders.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL

from ..networks.autoencoder import TemporalDecoder
from ..networks.temporal_decoder import VideoDecoder
from ..weights.weight_files import header_of
from . import load_temporal_decoder
from . import stable_diffusion as published
from . import stable_diffusion_autoencoders as autoencoders
from . import stable_diffusion_folders as folders
from . import stable_diffusion_text as text
from .embedded import loading as own
from .stable_diffusion_keys import unet_table, unet_to_ldm

__all__ = [
    "ImageModel", "autoencoder_of", "find_text_encoder", "kind_of", "latent_colours", "load",
    "load_autoencoder", "load_folder_autoencoder", "load_own", "load_temporal_autoencoder",
    "load_text_encoder", "load_text_encoders", "predicts_velocity", "unet_table", "unet_to_ldm",
]  # fmt: skip

ImageModel = own.ImageModel | published.ImageModel
LOAD_OWN: dict[str, Callable[..., own.ImageModel]] = {
    "image_model": own.load_image_model,
    "upsampler": own.load_upsampler,
}
autoencoder_of = own.autoencoder_of


def kind_of(model: ImageModel) -> str:
    """ "image_model" or "upsampler"."""
    return "upsampler" if model.model.own_task == "upsampling" else "image_model"


def load(path: Path, **where: Any) -> published.ImageModel:
    """Load the image model or upsampler of a published file or folder; `where` is dtype and device.

    Raises CheckpointError for files that hold none.
    """
    return published.load(path, **where)


def load_own(path: Path, kind: str, **where: Any) -> own.ImageModel:
    """Load the image model or upsampler (`kind`) in a file of this project's format, with the parts
    in the files beside it; `where` is dtype and device."""
    return LOAD_OWN[kind](path, **where)


def load_autoencoder(path: Path, **where: Any) -> AutoencoderKL:
    """Load the autoencoder in a file, published or of this project's format."""
    load = autoencoders.load if header_of(path) is None else own.load_autoencoder
    return load(path, **where)


def load_temporal_autoencoder(
    path: Path, **where: Any
) -> tuple[AutoencoderKL | None, TemporalDecoder | VideoDecoder]:
    """Load (encoder, decoder) from a file with a temporal decoder; the encoder is None if no
    matching one is known."""
    if header_of(path) is not None:
        return own.load_temporal_autoencoder(path, **where)
    decoder = load_temporal_decoder(path, **where)
    image = decoder.autoencoder
    return (image if hasattr(image, "encoder") else None), decoder


def load_text_encoder(path: Path, **where: Any) -> Any:
    """Load a published text encoder, with its tokenizer, from a file of its own."""
    return text.load(path, **where)


def load_text_encoders(paths: tuple[Path, Path], **where: Any) -> Any:
    """Load the two text encoders of one published model from files of their own."""
    return text.load_pair(paths, **where)


def latent_colours(autoencoder: Path) -> tuple[list[list[float]], list[float]]:
    """(factors [c][3], bias [3]) from scaled latents to RGB in [-1, 1], for an autoencoder's file
    in this project's format."""
    from .embedded.latent_colours import rgb_factors

    return rgb_factors(autoencoder)


# --------------------------------------------------------------------------------------------------
# Parts of diffusers' folders.


def predicts_velocity(folder: Path) -> bool:
    """Whether the U-Net in a folder predicts velocity, by its scheduler's configuration."""
    return folders.load_prediction(folder / "scheduler" / "scheduler_config.json") == "v"


def find_text_encoder(folder: Path) -> Path:
    """The weight file of a folder's text encoder."""
    return folders.find_text_weights(folder / "text_encoder")


def load_folder_autoencoder(folder: Path) -> AutoencoderKL:
    """Load a folder's autoencoder, in float32."""
    return folders.load_autoencoder_folder(folder / "vae", torch.float32)
