"""Checkpoints of LVDM and VideoCrafter, taken apart: which tensors belong to which network, which
are left over from training, and the running average of the U-Net's weights."""

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
"""Which of the U-Net's weights: those that the original samples with, the trained ones, or their
running average."""

AROUND = ("_forward_module.", "module.")
"""Before every key of a checkpoint that DeepSpeed wrote, or a trainer on several GPUs."""

COMPILED = "_orig_mod."
"""In the keys of a network that was compiled."""

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
"""Beside the networks: VideoCrafter's scales of the signal, and the noise schedule."""

ROUNDED = 1e-2
"""How far half precision may move the smallest of the published betas, relatively."""

AVERAGE_COUNTERS = ("decay", "num_updates")
CLIP_LEFTOVERS = {
    "text": re.compile(r"(model|transformer)\.text_projection(\.weight)?$"),
    "image": re.compile(r"(?!visual\.)|visual\.proj$"),
}
"""Of CLIP's contrastive loss: projections, and beside the image encoder a part of the text's."""


@dataclass(frozen=True)
class Parts:
    """The tensors of each network under the original's names without a prefix; empty for one that
    the file does not hold."""

    unet: dict[str, Tensor] = field(default_factory=dict)
    average: dict[str, Tensor] = field(default_factory=dict)
    autoencoder: dict[str, Tensor] = field(default_factory=dict)
    text: dict[str, Tensor] = field(default_factory=dict)
    resampler: dict[str, Tensor] = field(default_factory=dict)
    image: dict[str, Tensor] = field(default_factory=dict)


def read(path: str | os.PathLike) -> dict[str, Tensor]:
    """The flat state dict of a checkpoint, .ckpt or .safetensors, under the published names.

    Pickles are read for tensors alone. Raises CheckpointError for a file that is missing, broken,
    or that holds more than can be read so.
    """
    return unwrapped(read_weights(Path(path)))


def unwrapped(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without what trainers put around the published names; a U-Net that is alone and
    without its prefix gets it."""
    state = {key.replace(COMPILED, ""): tensor for key, tensor in state.items()}
    for prefix in AROUND:
        if state and all(key.startswith(prefix) for key in state):
            state = part(state, prefix)
    for before in ("", "diffusion_model."):
        shapes = {k.removeprefix(before): v.shape for k, v in state.items()}
        if before + FIRST in state and (is_lvdm(shapes) or is_videocrafter(shapes)):
            # Names without a dot are tables beside it.
            return {UNET + k.removeprefix(before) if "." in k else k: v for k, v in state.items()}
    return state


def is_used(key: str) -> bool:
    """Whether a key is of something that is loaded, by either kind of weights."""
    prefix = next((prefix for prefix in PREFIXES if key.startswith(prefix)), "")
    place, path = PREFIXES.get(prefix), key.removeprefix(prefix)
    if place == "average":
        return path not in AVERAGE_COUNTERS
    return key in TABLES or not (is_leftover(key) or _is_clip_leftover(place, path))


def take_apart(state: Mapping[str, Tensor], name: str) -> Parts:
    """The networks of a checkpoint.

    Raises CheckpointError that names the first five keys that are of none of them and not left over
    from training.
    """
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
    """The noise levels that a checkpoint was trained with: `usual` where it has no table of them,
    one without numbers, or one that agrees but for how it was rounded.

    Raises CheckpointError for a table of something else.
    """
    if BETAS not in state or state[BETAS].is_meta:
        return usual
    betas = state[BETAS].double()
    if betas.shape == usual.betas.shape and torch.allclose(betas, usual.betas, rtol=ROUNDED):
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
    """The U-Net's weights that were asked for, by the original's names.

    Those of the average are the raw ones' names without their dots. Raises CheckpointError where
    the file has no average.
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
    """The U-Net with weights under the original's names, every one of them used."""
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
    """The 3D autoencoder with weights under the original's names."""
    with torch.device("meta"):
        module = Autoencoder3D(config)
    own = keys.autoencoder_from_original(state, config)
    return channels_last(load_into(module, own, f"the autoencoder of {name}", dtype))


def load_text_encoder(
    state: Mapping[str, Tensor], config: Mapping[str, object], name: str, dtype: torch.dtype
) -> CLIPTextModel | None:
    """The text encoder of that configuration, None without weights of one."""
    if not state:
        return None
    bare = {parts.place_of(TEXT + key)[1]: tensor for key, tensor in state.items()}
    own = parts.text_state(bare, config["num_hidden_layers"])
    encoder = folders.build_text_encoder(config)
    return folders.load_text_encoder(encoder, own, f"the text encoder of {name}", dtype)
