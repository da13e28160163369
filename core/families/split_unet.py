"""A published video U-Net, split into the image U-Net that it extends and a set of temporal layers
by site."""

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
"""Prefixes of our names: the image U-Net's, and the temporal layers'."""


class UNetConfig(Protocol):
    """A family's configuration of such a U-Net."""

    layout: UNetLayout

    def unet_config(self) -> dict[str, Any]:
        """diffusers' configuration of the image U-Net."""

    def layers_spec(self) -> TemporalLayersSpec: ...


Config = TypeVar("Config", bound=UNetConfig)


@dataclass(frozen=True)
class SplitUNet(Generic[Config]):
    """The image U-Net and its temporal layers."""

    image: UNet2DConditionModel
    layers: TemporalLayers
    config: Config

    def own_state(self) -> dict[str, Tensor]:
        """All weights under our names: inverse of :func:`split`."""
        image = {f"{UNET}{k}": v for k, v in self.image.state_dict().items()}
        return image | self.layers.state_dict()


def split(
    own: Mapping[str, Tensor], config: Config, name: str, dtype: torch.dtype
) -> SplitUNet[Config]:
    """Build the networks from weights under our names, all of which are used; `name` is what errors
    call the file. Raises CheckpointError for missing or unknown weights."""
    with torch.device("meta"):
        layers = TemporalLayers(config.layers_spec())
    image = build_unet(config.unet_config())
    load_into(image, part(own, UNET), f"the U-Net of {name}", dtype)
    temporal = {k: v for k, v in own.items() if k.startswith(LAYERS)}
    load_into(layers, temporal, f"the temporal layers of {name}", dtype)
    return SplitUNet(channels_last(image), channels_last(layers), config)
