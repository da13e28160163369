"""Split files of Stable Video Diffusion, single files and diffusers folders, into networks.

A single file holds the encoder twice: in the first stage, where sampling does not use it, and in
the conditioner, where it encodes start images. It also holds remains of CLIP's text tower.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

from ..networks.temporal_decoder import VideoDecoder
from ..weights.checkpoints import complain, part
from ..weights.weight_files import read_weights
from . import open_clip_image, svd_decoder
from .stable_diffusion_folders import find_weights
from .stable_diffusion_parts import ROOTS, is_leftover

UNET = "model.diffusion_model."
FIRST_STAGE = "first_stage_model."
CONDITIONER = "conditioner.embedders.3.encoder."
"""The autoencoder that encodes start images."""
CLIP = "conditioner.embedders.0.open_clip.model."
VISUAL = "visual."
TEXT_TOWER = ("positional_embedding", "text_projection", "logit_scale", "token_embedding.weight",
              "ln_final.weight", "ln_final.bias")  # fmt: skip
"""Remains of CLIP's text tower, which nothing uses."""

ENCODER, DECODER = ("encoder.", "quant_conv."), ("decoder.", "post_quant_conv.")
FOLDERS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model",
           "image_encoder": "model"}  # fmt: skip


@dataclass(frozen=True)
class Parts:
    """The tensors of each network without prefixes; empty if missing.

    decoder: of the autoencoder. encoder: of start images. image: CLIP's image encoder, under
    OpenCLIP's or transformers' names.
    """

    unet: dict[str, Tensor] = field(default_factory=dict)
    decoder: dict[str, Tensor] = field(default_factory=dict)
    encoder: dict[str, Tensor] = field(default_factory=dict)
    image: dict[str, Tensor] = field(default_factory=dict)


def take_apart(state: Mapping[str, Tensor], name: str = "the file") -> Parts:
    """Split a single file, or one that holds only the U-Net without its prefix, into networks.

    CheckpointError names the first five keys that belong to no network and are no leftovers.
    """
    state = {k: v for k, v in state.items() if not is_leftover(k)}
    first, conditioner, clip = (part(state, prefix) for prefix in (FIRST_STAGE, CONDITIONER, CLIP))
    rest = {
        k: v for k, v in state.items() if not k.startswith((UNET, FIRST_STAGE, CONDITIONER, CLIP))
    }
    bare = {k: v for k, v in rest.items() if k.startswith(ROOTS["unet"])}
    complain("has unknown", name, [k for k in rest if k not in bare])
    odd = [k for k in first | conditioner if not k.startswith(ENCODER + DECODER)]
    odd += [k for k in clip if not k.startswith(VISUAL) and k not in TEXT_TOWER]
    complain("has unknown", name, odd)
    return Parts(
        unet=part(state, UNET) | bare,
        decoder=_of(first, DECODER),
        encoder=_of(conditioner or _whole_encoder(first), ENCODER),
        image=part(clip, VISUAL),
    )


def unused(state: Iterable[str]) -> set[str]:
    """Keys of a single file that nothing uses: remains of CLIP's text tower."""
    return {f"{CLIP}{key}" for key in TEXT_TOWER} & set(state)


def _of(state: Mapping[str, Tensor], prefixes: tuple[str, ...]) -> dict[str, Tensor]:
    return {k: v for k, v in state.items() if k.startswith(prefixes)}


def _whole_encoder(first: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The first stage's encoder, unless it lacks ``quant_conv``, as beside temporal decoders."""
    return first if "quant_conv.weight" in first else {}


# --------------------------------------------------------------------------------------------------
# diffusers' folders.


def unet_in_folder(folder: Path) -> dict[str, Tensor]:
    """The U-Net's weights in a diffusers folder or its subfolder ``unet``."""
    inner = folder / "unet"
    return read_weights(find_weights(inner if inner.is_dir() else folder, FOLDERS["unet"]))


def read_folder(folder: Path) -> Parts:
    """All networks of a folder; all but the U-Net may be missing."""
    vae, image = (
        read_weights(find_weights(folder / name, FOLDERS[name])) if (folder / name).is_dir() else {}
        for name in ("vae", "image_encoder")
    )
    odd = [k for k in vae if not k.startswith(ENCODER + DECODER)]
    complain("has unknown", f"the autoencoder in {folder}", odd)
    return Parts(
        unet=unet_in_folder(folder),
        decoder=_of(vae, DECODER),
        encoder=_of(vae, ENCODER),
        image={k: v for k, v in image.items() if not k.endswith("position_ids")},
    )


def autoencoder_in(path: Path) -> dict[str, Tensor]:
    """The weights of the decoder and the matching encoder: in a single file, a file of the
    autoencoder alone, a diffusers folder or its subfolder ``vae``."""
    if path.is_dir():
        inner = path / "vae"
        path = find_weights(inner if inner.is_dir() else path, FOLDERS["vae"])
    state = read_weights(path)
    if all(k.startswith(ENCODER + DECODER) for k in state):
        return state
    found = take_apart(state, path.name)
    return found.encoder | found.decoder


# --------------------------------------------------------------------------------------------------
# Networks.


def autoencoders_of(
    found: Parts, name: str, dtype: torch.dtype
) -> tuple[VideoDecoder | AutoencoderKL | None, AutoencoderKL | None]:
    """(decoder, encoder of start images): one autoencoder with both halves."""
    if not found.decoder:
        return None, None
    state, named = found.encoder | found.decoder, f"the autoencoder of {name}"
    if svd_decoder.names_in({k: v.shape for k, v in state.items()}) is None:
        image = svd_decoder.image_autoencoder(state, named, dtype)
        return image, image if found.encoder else None
    decoder = svd_decoder.from_state(state, named, dtype)
    return decoder, decoder.autoencoder if found.encoder else None


def image_encoder_of(
    found: Parts, name: str, dtype: torch.dtype
) -> CLIPVisionModelWithProjection | None:
    if not found.image:
        return None
    named = f"the image encoder of {name}"
    return open_clip_image.projected_from_state(found.image, named, dtype)
