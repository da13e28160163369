"""Split checkpoints of LVDM and VideoCrafter into networks, choose between raw and averaged weights
of the U-Net, and drop training leftovers."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from transformers import CLIPTextModel

from ..diffusion.schedules import NoiseSchedule, from_betas
from ..networks.autoencoder_3d import Autoencoder3D, Autoencoder3DConfig
from ..networks.factorised_unet import FactorisedUNet
from ..networks.layers.residual import channels_last
from ..weights.checkpoints import CheckpointError, complain, load_into, part
from ..weights.weight_files import read_weights
from . import factorised_keys as keys
from . import stable_diffusion_folders as folders
from . import stable_diffusion_parts as parts
from .factorised_config import FIRST, is_lvdm, is_videocrafter, unet_config
from .stable_diffusion_parts import is_leftover

Weights = Literal["published", "raw", "average"]
WEIGHTS: tuple[Weights, ...] = ("published", "raw", "average")
"""Which of the U-Net's weights: those that the original samples with, the raw ones, or their
running average (EMA)."""

TRAINER_PREFIXES = ("_forward_module.", "module.")
"""Prefixes of every key that DeepSpeed or a multi-GPU trainer adds."""

COMPILED = "_orig_mod."
"""Part of the keys of a compiled network."""

UNET = "model.diffusion_model."

TEXT = "cond_stage_model."
PREFIXES = {
    UNET: "unet",
    "model_ema.": "average",
    "first_stage_model.": "autoencoder",
    TEXT: "text",
    "image_proj_model.": "resampler",
    "embedder.model.": "image",
}
SIGNAL_SCALES, BETAS = "scale_arr", "betas"
TABLES = (SIGNAL_SCALES, BETAS)
"""Beside the networks: VideoCrafter's signal scales, and the noise schedule."""

BETA_TOLERANCE = 1e-2
"""Relative rounding error of the smallest published betas in half precision, at most."""

AVERAGE_COUNTERS = ("decay", "num_updates")
CLIP_LEFTOVERS = {
    "text": re.compile(r"(model|transformer)\.text_projection(\.weight)?$"),
    "image": re.compile(r"(?!visual\.)|visual\.proj$"),
}
"""Left from CLIP's contrastive loss: projections, and parts of the other encoder."""


@dataclass(frozen=True)
class Parts:
    """The tensors of each network under the original's names without a prefix; empty if missing."""

    unet: dict[str, Tensor] = field(default_factory=dict)
    average: dict[str, Tensor] = field(default_factory=dict)
    autoencoder: dict[str, Tensor] = field(default_factory=dict)
    text: dict[str, Tensor] = field(default_factory=dict)
    resampler: dict[str, Tensor] = field(default_factory=dict)
    image: dict[str, Tensor] = field(default_factory=dict)


def read(path: str | os.PathLike) -> dict[str, Tensor]:
    """The flat state dict of a checkpoint, .ckpt or .safetensors, under the published names.

    Pickles may hold nothing but tensors and plain values. Raises CheckpointError for a file that is
    missing, broken or holds more than that.
    """
    return unwrapped(read_weights(Path(path)))


def unwrapped(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Strip what trainers add to the published names; a bare U-Net without its prefix gets it."""
    state = {key.replace(COMPILED, ""): tensor for key, tensor in state.items()}
    for prefix in TRAINER_PREFIXES:
        if state and all(key.startswith(prefix) for key in state):
            state = part(state, prefix)
    for before in ("", "diffusion_model."):
        shapes = {k.removeprefix(before): v.shape for k, v in state.items()}
        if before + FIRST in state and (is_lvdm(shapes) or is_videocrafter(shapes)):
            # Names without a dot are tables, not weights.
            return {UNET + k.removeprefix(before) if "." in k else k: v for k, v in state.items()}
    return state


def is_used(key: str) -> bool:
    """Whether a key can be loaded, with raw or averaged weights."""
    prefix = next((prefix for prefix in PREFIXES if key.startswith(prefix)), "")
    place, path = PREFIXES.get(prefix), key.removeprefix(prefix)
    if place == "average":
        return path not in AVERAGE_COUNTERS
    return key in TABLES or not (is_leftover(key) or _is_clip_leftover(place, path))


def take_apart(state: Mapping[str, Tensor], name: str) -> Parts:
    """Split a checkpoint into its networks; CheckpointError names the first five unknown keys."""
    found, unknown = Parts(), []
    for key in filter(is_used, state):
        prefix = next((prefix for prefix in PREFIXES if key.startswith(prefix)), None)
        if prefix is not None:
            getattr(found, PREFIXES[prefix])[key.removeprefix(prefix)] = state[key]
        elif key not in TABLES:
            unknown.append(key)
    complain("has unknown", name, unknown)
    return found


def _is_clip_leftover(place: str | None, path: str) -> bool:
    pattern = CLIP_LEFTOVERS.get(place)
    return pattern is not None and pattern.match(path) is not None


def schedule_of(state: Mapping[str, Tensor], usual: NoiseSchedule, name: str) -> NoiseSchedule:
    """The noise schedule of a checkpoint: `usual` if it has no table of betas, one on meta, or one
    that agrees up to rounding.

    Raises CheckpointError for a table that is no noise schedule.
    """
    if BETAS not in state or state[BETAS].is_meta:
        return usual
    betas = state[BETAS].double()
    if betas.shape == usual.betas.shape and torch.allclose(betas, usual.betas, rtol=BETA_TOLERANCE):
        return usual
    try:
        return from_betas(betas)
    except ValueError as error:
        raise CheckpointError(
            f"{name}: its table {BETAS} is not a noise schedule: {error}"
        ) from error


# --------------------------------------------------------------------------------------------------
# Networks.


def unet_weights(
    found: Parts, weights: Weights, published: Weights, name: str
) -> dict[str, Tensor]:
    """The requested weights of the U-Net, under the original's names.

    In the running average, names have lost their dots. Raises CheckpointError if the file has no
    average, ValueError for unknown `weights`.
    """
    if weights not in WEIGHTS:
        raise ValueError(f"weights must be one of {', '.join(WEIGHTS)}, not {weights!r}")
    if (published if weights == "published" else weights) == "raw":
        return found.unet
    if not found.average:
        raise CheckpointError(f"{name} has no running average of the U-Net's weights")
    flat = {f"diffusion_model{key}".replace(".", ""): key for key in found.unet}
    complain("lacks", f"the running average in {name}", [k for k in flat if k not in found.average])
    complain(
        "has unknown", f"the running average in {name}", [k for k in found.average if k not in flat]
    )
    return {key: found.average[k] for k, key in flat.items()}


def load_unet(
    state: Mapping[str, Tensor], name: str, dtype: torch.dtype = torch.float32
) -> FactorisedUNet:
    """Build the U-Net from weights under the original's names, all of which are used."""
    config = unet_config({k: v.shape for k, v in state.items()})
    with torch.device("meta"):
        network = FactorisedUNet(config)
    own = keys.unet_from_original(state, config)
    return channels_last(load_into(network, own, f"the U-Net of {name}", dtype))


def load_autoencoder_3d(
    state: Mapping[str, Tensor],
    config: Autoencoder3DConfig,
    name: str,
    dtype: torch.dtype = torch.float32,
) -> Autoencoder3D:
    """Build the 3D autoencoder from weights under the original's names."""
    with torch.device("meta"):
        module = Autoencoder3D(config)
    own = keys.autoencoder_from_original(state, config)
    return channels_last(load_into(module, own, f"the autoencoder of {name}", dtype))


def load_text_encoder(
    state: Mapping[str, Tensor], config: Mapping[str, object], name: str, dtype: torch.dtype
) -> CLIPTextModel | None:
    """Build the text encoder of this configuration; None if `state` is empty."""
    if not state:
        return None
    bare = {parts.place_of(TEXT + key)[1]: tensor for key, tensor in state.items()}
    own = parts.text_state(bare, config["num_hidden_layers"])
    encoder = folders.build_text_encoder(config)
    return folders.load_text_encoder(encoder, own, f"the text encoder of {name}", dtype)
