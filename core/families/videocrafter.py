"""VideoCrafter 1 and 2 (Chen et al. 2023, 2024): text to video in two sizes, image to video."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from transformers import CLIPTextModel, CLIPVisionModel

from ..diffusion.preconditioning import discrete
from ..diffusion.schedules import NoiseSchedule, scaled_linear
from ..networks.diffusion_model import DiffusionModel
from ..networks.factorised_unet import FactorisedUNet
from ..networks.image_resampler import ImageResampler
from ..text.clip_vocabulary import ClipTokenizer
from ..weights.checkpoints import CheckpointError, load_into, part
from . import factorised_files as files
from . import factorised_keys as keys
from . import open_clip_image
from . import stable_diffusion_autoencoders as autoencoders
from .factorised_config import Shapes, is_videocrafter, resampler_config
from .factorised_files import UNET
from .factorised_sampling import ScaledSignalSchedule
from .stable_diffusion import CLIP_LENGTH
from .stable_diffusion_refusals import what_it_is
from .stable_diffusion_specs import OPEN_CLIP_H
from .stable_diffusion_text import TextModel
from .video_parts import VideoParts

FAMILY = "videocrafter"
RESAMPLER = "image_proj_model."
PADDING = 0  # the token that pads short prompts
LATENT_SCALE = 0.18215


@dataclass(frozen=True, kw_only=True)
class VideoCrafterModel:
    """A model to sample from, with its autoencoder (frame by frame) and encoders of prompts; None
    for what the file does not hold.

    image_encoder: its last hidden state is the resampler's input.
    """

    model: DiffusionModel
    autoencoder: AutoencoderKL | None
    text_encoder: CLIPTextModel | None
    tokenizer: ClipTokenizer
    resampler: ImageResampler | None
    image_encoder: CLIPVisionModel | None


def detect(shapes: Shapes) -> str | None:
    """ "text to video" or "image to video" for the names and shapes of a VideoCrafter file, else
    None."""
    unet = {k[len(UNET) :]: v for k, v in shapes.items() if k.startswith(UNET)}
    if not is_videocrafter(unet):
        return None
    return "image to video" if any(".to_k_ip." in key for key in unet) else "text to video"


def load(
    path: str | os.PathLike,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> VideoCrafterModel:
    """Load a published checkpoint, its float16 weights cast to `dtype`.

    Raises CheckpointError for a file that is missing, broken, incomplete or of another family.
    """
    path = Path(path)
    return assemble(files.read(path), path.name, dtype=dtype, device=device)


def assemble(
    state: Mapping[str, Tensor],
    name: str,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> VideoCrafterModel:
    """Build the model from a checkpoint's state dict; `name` is what errors call the file."""
    if detect({k: v.shape for k, v in state.items()}) is None:
        raise CheckpointError(f"{name} is not a VideoCrafter model{what_it_is(state)}")
    found = files.take_apart(state, name)
    network = files.load_unet(found.unet, name, dtype).to(device)
    text = files.load_text_encoder(found.text, OPEN_CLIP_H, name, dtype)
    autoencoder = None
    if found.autoencoder:
        named = f"the autoencoder of {name}"
        autoencoder = autoencoders.from_state(
            found.autoencoder, named, dtype, scale=LATENT_SCALE
        ).to(device)
    resampler = image = None
    if found.resampler:
        resampler = load_resampler(found.resampler, name, dtype).to(device)
    if found.image:
        visual, named = part(found.image, "visual."), f"the image encoder of {name}"
        image = open_clip_image.from_state(visual, named, dtype).to(device)
    return VideoCrafterModel(
        model=_diffusion_model(network, schedule_of(state, name)),
        autoencoder=autoencoder,
        text_encoder=text and text.to(device),
        tokenizer=ClipTokenizer(PADDING),
        resampler=resampler,
        image_encoder=image,
    )


# --------------------------------------------------------------------------------------------------
# For the registry.


def detects(path: Path) -> bool:
    """Whether a file without a header holds a VideoCrafter model."""
    try:
        return detect({k: v.shape for k, v in files.read(path).items()}) is not None
    except CheckpointError:
        return False


def load_model(path: Path, **where: Any) -> DiffusionModel:
    return load(path, **where).model


def load_parts(path: Path, **where: Any) -> VideoParts:
    """Load the model with whatever else its file holds."""
    found = load(path, **where)
    text = None
    if found.text_encoder is not None:
        text = TextModel(found.text_encoder, found.tokenizer, CLIP_LENGTH, 1)
    return VideoParts(
        model=found.model,
        autoencoder=found.autoencoder,
        text=text,
        image_encoder=found.image_encoder,
        resampler=found.resampler,
    )


# --------------------------------------------------------------------------------------------------


def load_resampler(
    state: Mapping[str, Tensor],
    name: str,
    dtype: torch.dtype = torch.float32,
    head_width: int = 64,
) -> ImageResampler:
    """Build the resampler from weights without a prefix. head_width: as published by default; the
    weights do not reveal it."""
    config = resampler_config({k: v.shape for k, v in state.items()}, head_width)
    with torch.device("meta"):
        module = ImageResampler(config)
    own = keys.resampler_from_original(state, config)
    return load_into(module, own, f"the resampler of {name}", dtype)


def schedule_of(state: Mapping[str, Tensor], name: str) -> NoiseSchedule:
    """The noise schedule, with the file's table of signal scales if it has one.

    The tables of published files are longer than the schedule; the surplus is ignored.
    """
    schedule = files.schedule_of(state, scaled_linear(), name)
    scales = state.get(files.SIGNAL_SCALES)
    if scales is None:
        return schedule
    if len(scales) < schedule.steps:
        raise CheckpointError(f"{name} has {len(scales)} signal scales for {schedule.steps} steps")
    return ScaledSignalSchedule(schedule.alphas_cumprod, signal_scales=scales[: schedule.steps])


def _diffusion_model(network: FactorisedUNet, schedule: NoiseSchedule) -> DiffusionModel:
    return DiffusionModel(
        network=network,
        preconditioning=discrete("eps", schedule),
        own_task="image to video" if network.config.attention.image else "text to video",
        latent_channels=network.config.latent_channels,
        family=FAMILY,
        factor=8,
        latent_scale=LATENT_SCALE,
    )


def to_original(model: VideoCrafterModel) -> dict[str, Tensor]:
    """The weights of the U-Net and the resampler under their published names."""
    network = model.model.network
    found = keys.unet_to_original(network.state_dict(), network.config)
    state = {UNET + key: tensor for key, tensor in found.items()}
    if model.resampler is not None:
        resampler = model.resampler
        own = keys.resampler_to_original(resampler.state_dict(), resampler.config)
        state |= {RESAMPLER + key: tensor for key, tensor in own.items()}
    return state
