"""ModelScope's text to video (Wang et al. 2023), and ZeroScope, which was fine-tuned from it.

Its U-Net has Stable Diffusion 2's size and temporal layers that do not read the noise level:
convolutions after every residual block, transformers after every spatial one. It is loaded as such:
the image network, and a set of temporal layers by site.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..diffusion.preconditioning import discrete
from ..diffusion.schedules import scaled_linear
from ..networks.diffusion_model import DiffusionModel
from ..networks.temporal_layers import TemporalLayers
from ..networks.video_unet import inject
from ..weights.checkpoints import CheckpointError, part
from ..weights.weight_files import read_weights
from . import modelscope_keys as keys
from .modelscope_config import TASK, ModelScopeConfig, config_of
from .split_unet import SplitUNet, split
from .stable_diffusion_folders import find_weights
from .stable_diffusion_parts import is_leftover
from .stable_diffusion_refusals import what_it_is
from .svd_keys import names_in
from .unet_layouts import Shapes, layout_in

FAMILY = "modelscope"
LATENT_SCALE = 0.18215
PREFIXES = ("model.diffusion_model.", "unet.")
"""Possible prefixes of all keys."""
WEIGHTS = "diffusion_pytorch_model"
"""File name in diffusers' folders."""
MARKERS = ("input_blocks.0.1.proj_in.weight", "transformer_in.proj_in.weight")
"""Weights of the transformer after the first convolution, which no other U-Net has."""


UNet = SplitUNet[ModelScopeConfig]


def is_modelscope(shapes: Shapes) -> bool:
    """Whether weights without a prefix are such a U-Net's, complete or not."""
    convolutions = ("input_blocks.1.0.temopral_conv.conv1.2.weight",
                    "down_blocks.0.temp_convs.0.conv1.2.weight")  # fmt: skip
    return any(a in shapes and b in shapes for a, b in zip(MARKERS, convolutions, strict=True))


def detect(shapes: Shapes, name: str = "the U-Net", **settings: Any) -> ModelScopeConfig | None:
    """The configuration, read off the names (without a prefix) and shapes of weights; None for
    other networks. settings: see :func:`.modelscope_config.config_of`.

    Raises CheckpointError for such a U-Net with unknown keys.
    """
    layout = layout_in(shapes) if is_modelscope(shapes) else None
    if layout is None:
        return None
    return config_of(layout, keys.to_own(shapes, layout, names_in(shapes), name), **settings)


def assemble(
    state: Mapping[str, Tensor],
    name: str = "the U-Net",
    config: ModelScopeConfig | None = None,
    *,
    dtype: torch.dtype = torch.float32,
) -> UNet:
    """Build the U-Net from weights without a prefix, all of which are used.

    config: only needed for an unpublished kind. Raises CheckpointError for weights that are
    missing, unknown or of another family.
    """
    config = config or detect({k: v.shape for k, v in state.items()}, name)
    if config is None:
        raise CheckpointError(
            f"{name} is not a U-Net of ModelScope's text to video{what_it_is(state)}"
        )
    own = keys.as_linear(keys.to_own(state, config.layout, names_in(state), name))
    return split(own, config, name, dtype)


def to_foreign(unet: UNet, names: keys.Names) -> dict[str, Tensor]:
    """The original's or diffusers' state dict: inverse of :func:`assemble`."""
    return keys.to_foreign(unet.own_state(), unet.config.layout, names)


def diffusion_model(unet: UNet, device: torch.device | str = "cpu") -> DiffusionModel:
    """The U-Net with Stable Diffusion's noise levels and latent scale."""
    return DiffusionModel(
        network=inject(unet.image, unet.layers).to(device),
        preconditioning=discrete("eps", scaled_linear()),
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
    config: ModelScopeConfig | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> DiffusionModel:
    """Load a U-Net under the original's or diffusers' names from a file or a diffusers folder.

    Raises CheckpointError for one that is missing, broken, incomplete or of another family.
    """
    path = Path(path)
    return diffusion_model(assemble(read(path), path.name, config, dtype=dtype), device)


def load_layers(
    path: str | os.PathLike,
    *,
    config: ModelScopeConfig | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> TemporalLayers:
    """Load only the temporal layers, for an image model of the same layout such as Stable Diffusion
    2.1. Raises CheckpointError like :func:`load`."""
    path = Path(path)
    return assemble(read(path), path.name, config, dtype=dtype).layers.to(device)


def read(path: Path) -> dict[str, Tensor]:
    """The U-Net's weights in a file, a diffusers folder or the latter's subfolder ``unet``."""
    inner = path / "unet" if (path / "unet").is_dir() else path
    return without_prefix(read_weights(find_weights(inner, WEIGHTS) if path.is_dir() else path))


def without_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a U-Net under plain names, without training leftovers."""
    state = {k: v for k, v in state.items() if not is_leftover(k)}
    for prefix in PREFIXES:
        if state and all(k.startswith(prefix) for k in state):
            return part(state, prefix)
    return state


def detects(path: Path) -> bool:
    """Whether a file without a header, or a folder, holds a U-Net of ModelScope."""
    try:
        return is_modelscope({k: v.shape for k, v in read(path).items()})
    except CheckpointError:
        return False
