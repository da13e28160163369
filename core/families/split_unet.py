"""A published video U-Net, taken apart into the image U-Net that it grew from and a set of temporal
layers, each with its site."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from ..networks.layers.residual import channels_last
from ..networks.sites import UNetLayout
from ..networks.temporal_layers import TemporalLayers
from ..networks.temporal_layers_spec import TemporalLayersSpec
from ..weights.checkpoints import load_into, part
from .stable_diffusion_folders import build_unet

UNET, LAYERS = "unet.", "layers."
"""What own names begin with: those of the image U-Net, and those of the temporal layers."""


class UNetConfig(Protocol):
    """What a family's configuration of such a U-Net tells."""

    layout: UNetLayout

    def unet_config(self) -> dict[str, Any]:
        """Of the image U-Net, as diffusers writes it."""

    def layers_spec(self) -> TemporalLayersSpec: ...


Config = TypeVar("Config", bound=UNetConfig)


@dataclass(frozen=True)
class SplitUNet(Generic[Config]):
    """The image U-Net and its temporal layers."""

    image: UNet2DConditionModel
    layers: TemporalLayers
    config: Config

    def own_state(self) -> dict[str, Tensor]:
        """All weights under own names: inverse of :func:`split`."""
        image = {f"{UNET}{k}": v for k, v in self.image.state_dict().items()}
        return image | self.layers.state_dict()


def split(
    own: Mapping[str, Tensor], config: Config, name: str, dtype: torch.dtype
) -> SplitUNet[Config]:
    """The networks of weights under own names, every one of them used; `name` is what errors call
    the file. Raises CheckpointError for weights that are missing or unknown."""
    with torch.device("meta"):
        layers = TemporalLayers(config.layers_spec())
    image = build_unet(config.unet_config())
    load_into(image, part(own, UNET), f"the U-Net of {name}", dtype)
    temporal = {k: v for k, v in own.items() if k.startswith(LAYERS)}
    load_into(layers, temporal, f"the temporal layers of {name}", dtype)
    return SplitUNet(channels_last(image), channels_last(layers), config)
