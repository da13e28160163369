"""Stable Video Diffusion (Blattmann et al. 2023): image to video, 14 or 25 frames.

Its U-Net has Stable Diffusion 2's size and temporal layers, and is also conditioned on frame rate,
motion and noise augmentation. It is loaded as such: the image network, and a set of temporal layers
by site.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

from ..diffusion.preconditioning import ContinuousVPreconditioning
from ..networks.diffusion_model import DiffusionModel
from ..networks.temporal_decoder import VideoDecoder
from ..networks.temporal_layers import TemporalLayers
from ..networks.video_unet import inject
from ..weights.checkpoints import CheckpointError
from ..weights.weight_files import read_weights
from . import svd_decoder
from . import svd_files as files
from . import svd_keys as keys
from .split_unet import SplitUNet, split
from .stable_diffusion_refusals import what_it_is
from .svd_config import TASK, SvdConfig, config_of
from .svd_decoder import LATENT_SCALE
from .unet_layouts import Shapes, layout_in
from .video_parts import VideoParts

FAMILY = "svd"
FIRST_CONVOLUTION = "spatial_res_block.conv1"
"""Its path in diffusers' residual blocks."""


UNet = SplitUNet[SvdConfig]


@dataclass(frozen=True, kw_only=True)
class SvdModel:
    """A model to sample from, with its encoders and decoder; None for what the file does not hold.

    decoder: with temporal layers, or an image autoencoder that decodes frame by frame. encoder: of
    start images; the model takes its latents unscaled. image_encoder: applied to the start image's
    `open_clip_image.squashed_pixels`; its projected embedding is the prompt's only token.
    """

    model: DiffusionModel
    unet: UNet
    decoder: VideoDecoder | AutoencoderKL | None = None
    encoder: AutoencoderKL | None = None
    image_encoder: CLIPVisionModelWithProjection | None = None


# --------------------------------------------------------------------------------------------------
# U-Net.


def is_svd(shapes: Shapes) -> bool:
    """Whether weights without a prefix are such a U-Net's, complete or not."""
    named = ("input_blocks.1.0.time_stack.in_layers.2.weight",
             f"down_blocks.0.resnets.0.{FIRST_CONVOLUTION}.weight")  # fmt: skip
    return any(name in shapes for name in named)


def detect(shapes: Shapes, name: str = "the U-Net", **settings: Any) -> SvdConfig | None:
    """The configuration, read off the names (without a prefix) and shapes of weights; None for
    other networks. settings: see :func:`.svd_config.config_of`.

    Raises CheckpointError for such a U-Net with unknown keys.
    """
    layout = layout_in(shapes, first_convolution=FIRST_CONVOLUTION) if is_svd(shapes) else None
    if layout is None:
        return None
    return config_of(layout, keys.to_own(shapes, layout, keys.names_in(shapes), name), **settings)


def assemble_unet(
    state: Mapping[str, Tensor],
    name: str = "the U-Net",
    config: SvdConfig | None = None,
    *,
    dtype: torch.dtype = torch.float32,
) -> UNet:
    """Build the U-Net from weights without a prefix, all of which are used.

    config: only needed for an unpublished kind, as weights do not reveal the head width nor how
    layers are blended.
    """
    config = config or detect({k: v.shape for k, v in state.items()}, name)
    if config is None:
        raise CheckpointError(f"{name} is not a U-Net of Stable Video Diffusion{what_it_is(state)}")
    own = keys.to_own(state, config.layout, keys.names_in(state), name)
    return split(own, config, name, dtype)


def unet_to_foreign(unet: UNet, names: keys.Names) -> dict[str, Tensor]:
    """The original's or diffusers' state dict: inverse of :func:`assemble_unet`."""
    return keys.to_foreign(unet.own_state(), unet.config.layout, names)


def diffusion_model(unet: UNet, device: torch.device | str = "cpu") -> DiffusionModel:
    """The U-Net with the noise levels and latent scale of all published models."""
    return DiffusionModel(
        network=inject(unet.image, unet.layers, prompt="image").to(device),
        preconditioning=ContinuousVPreconditioning(),
        own_task=TASK,
        latent_channels=unet.config.out_channels,
        factor=8,
        latent_scale=LATENT_SCALE,
    )


# --------------------------------------------------------------------------------------------------
# Files.


def load(
    path: str | os.PathLike,
    *,
    config: SvdConfig | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> SvdModel:
    """Load a single file with all of its parts, a file of the U-Net alone, or a diffusers folder.

    config: see :func:`assemble_unet`. Raises CheckpointError for a file that is missing, broken,
    incomplete or of another family.
    """
    path = Path(path)
    found = (
        files.read_folder(path)
        if path.is_dir()
        else files.take_apart(read_weights(path), path.name)
    )
    return assemble(found, path.name, config, dtype=dtype, device=device)


def assemble(
    found: files.Parts,
    name: str,
    config: SvdConfig | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> SvdModel:
    """Build the model from a file's parts; `name` is what errors call the file."""
    unet = assemble_unet(found.unet, name, config, dtype=dtype)
    decoder, encoder = files.autoencoders_of(found, name, dtype)
    image = files.image_encoder_of(found, name, dtype)
    return SvdModel(
        model=diffusion_model(unet, device),
        unet=unet,
        decoder=decoder and decoder.to(device),
        encoder=encoder and encoder.to(device),
        image_encoder=image and image.to(device),
    )


def load_parts(path: str | os.PathLike, **where: Any) -> VideoParts:
    """:func:`load`, with the result in the form that all families share."""
    found = load(path, **where)
    temporal = isinstance(found.decoder, VideoDecoder)
    return VideoParts(
        model=found.model,
        autoencoder=found.encoder if temporal else found.decoder,
        decoder=found.decoder if temporal else None,
        image_encoder=found.image_encoder,
    )


def load_model(path: str | os.PathLike, **where: Any) -> DiffusionModel:
    """Load only the model to sample from, without building the rest of the file."""
    device = where.pop("device", "cpu")
    return diffusion_model(_load_unet(Path(path), **where), device)


def load_layers(path: str | os.PathLike, **where: Any) -> TemporalLayers:
    """Load only the temporal layers, for an image model of the same layout."""
    device = where.pop("device", "cpu")
    return _load_unet(Path(path), **where).layers.to(device)


def load_decoder(
    path: str | os.PathLike,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> VideoDecoder:
    """Load only the temporal decoder, for the latents of any image model with this autoencoder.

    Raises CheckpointError for a file or folder that holds none.
    """
    path = Path(path)
    return svd_decoder.from_state(files.autoencoder_in(path), path.name, dtype).to(device)


def _load_unet(path: Path, config: SvdConfig | None = None, **where: Any) -> UNet:
    if path.is_dir():
        return assemble_unet(files.unet_in_folder(path), path.name, config, **where)
    return assemble_unet(
        files.take_apart(read_weights(path), path.name).unet, path.name, config, **where
    )


def detects(path: Path) -> bool:
    """Whether a file without a header, or a folder, holds a U-Net of Stable Video Diffusion."""
    try:
        state = files.unet_in_folder(path) if path.is_dir() else read_weights(path)
    except CheckpointError:
        return False
    return is_svd({k.removeprefix(files.UNET): v.shape for k, v in state.items()})
