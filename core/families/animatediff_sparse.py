"""SparseCtrl (Guo et al. 2023): a ControlNet for Stable Diffusion 1 under diffusers' names, with
motion modules of one attention on its way down."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import ControlNetModel
from torch import Tensor, nn

from ..networks.sites import layout_of
from ..networks.sparse_control import SparseControlNet
from ..weights.checkpoints import CheckpointError, load_into
from ..weights.weight_files import read_weights
from . import animatediff
from . import animatediff_keys as keys
from .animatediff_config import AnimateDiffConfig, detect
from .controlnets import LAST_OF_DIFFUSERS, config_of

MOTION = ".motion_modules."
EMBEDDING = "controlnet_cond_embedding"


def is_sparse(names: Iterable[str]) -> bool:
    """Whether weights with these names are a SparseCtrl's."""
    names = set(names)
    return LAST_OF_DIFFUSERS in names and any(MOTION in name for name in names)


def load(
    path: str | os.PathLike,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> SparseControlNet:
    """Load a file; CheckpointError if it holds no SparseCtrl."""
    path = Path(path)
    state = read_weights(path)
    if not is_sparse(state):
        raise CheckpointError(f"{path.name} is not a SparseCtrl: it has no motion modules in it")
    return assemble(state, path.name, dtype=dtype).to(device)


def assemble(
    state: Mapping[str, Tensor], name: str = "the file", *, dtype: torch.dtype = torch.float32
) -> SparseControlNet:
    """Build the network from a state dict; unknown keys are an error."""
    spatial = {k: v for k, v in state.items() if MOTION not in k}
    try:
        config = config_of(spatial)
    except KeyError as error:
        raise CheckpointError(f"{name} lacks {error.args[0]}") from None
    takes_latents = f"{EMBEDDING}.weight" in spatial
    with torch.device("meta"):
        encoder = ControlNetModel.from_config(config)
        if takes_latents:
            channels, width = config["conditioning_channels"], config["block_out_channels"][0]
            encoder.controlnet_cond_embedding = nn.Conv2d(channels, width, 3, padding=1)
    encoder = load_into(encoder, spatial, name, dtype)
    motion = {k: v for k, v in state.items() if MOTION in k}
    known = _motion_config(motion, encoder, name)
    layers = animatediff.assemble(motion, known, name, dtype=dtype)
    return SparseControlNet(encoder, layers, takes_latents=takes_latents).eval()


def _motion_config(
    motion: Mapping[str, Tensor], encoder: ControlNetModel, name: str
) -> AnimateDiffConfig:
    found = detect({k: tuple(v.shape) for k, v in motion.items()})
    if found is None:
        raise CheckpointError(f"{name} has motion modules of an unknown kind")
    return replace(found, variant="v3", layout=layout_of(encoder.config))


def to_original(network: SparseControlNet, config: AnimateDiffConfig) -> dict[str, Tensor]:
    """The file's state dict: inverse of :func:`assemble`."""
    motion = keys.join(keys.Split(network.layers.state_dict(), []), config)
    return {**network.encoder.state_dict(), **motion}
