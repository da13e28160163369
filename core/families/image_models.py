"""Image models and their parts, as hosts load them: this is where the families of image models are
told apart, as those of temporal layers are in the registry of this room.

Files with a header of this project's format are the pack's own family's; all others are published
ones, single files or diffusers' folders.
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
    """The image model or upsampler of a published file or folder; `where` is dtype and device.

    Raises CheckpointError, in one sentence, for files that hold none.
    """
    return published.load(path, **where)


def load_own(path: Path, kind: str, **where: Any) -> own.ImageModel:
    """The image model or upsampler (`kind`) of a file in this project's format, with the parts that
    lie beside it; `where` is dtype and device."""
    return LOAD_OWN[kind](path, **where)


def load_autoencoder(path: Path, **where: Any) -> AutoencoderKL:
    """The autoencoder of a file, published or in this project's format."""
    load = autoencoders.load if header_of(path) is None else own.load_autoencoder
    return load(path, **where)


def load_temporal_autoencoder(
    path: Path, **where: Any
) -> tuple[AutoencoderKL | None, TemporalDecoder | VideoDecoder]:
    """(encoder, decoder) of a file with a temporal decoder; None where no encoder is known to
    fit."""
    if header_of(path) is not None:
        return own.load_temporal_autoencoder(path, **where)
    decoder = load_temporal_decoder(path, **where)
    image = decoder.autoencoder
    return (image if hasattr(image, "encoder") else None), decoder


def load_text_encoder(path: Path, **where: Any) -> Any:
    """A published text encoder with its tokenizer, of a file of its own."""
    return text.load(path, **where)


def load_text_encoders(paths: tuple[Path, Path], **where: Any) -> Any:
    """The two published text encoders of a model that reads both, of files of their own."""
    return text.load_pair(paths, **where)


def latent_colours(autoencoder: Path) -> tuple[list[list[float]], list[float]]:
    """(factors [c][3], bias [3]) from scaled latents to RGB in [-1, 1], of an autoencoder's file in
    this project's format."""
    from .embedded.latent_colours import rgb_factors

    return rgb_factors(autoencoder)


# --------------------------------------------------------------------------------------------------
# Parts of diffusers' folders.


def predicts_velocity(folder: Path) -> bool:
    """Whether the scheduler of a folder says so, which its U-Net does not."""
    return folders.load_prediction(folder / "scheduler" / "scheduler_config.json") == "v"


def find_text_encoder(folder: Path) -> Path:
    """The file with the weights of a folder's text encoder."""
    return folders.find_text_weights(folder / "text_encoder")


def load_folder_autoencoder(folder: Path) -> AutoencoderKL:
    """The autoencoder of a folder, in float32."""
    return folders.load_autoencoder_folder(folder / "vae", torch.float32)
