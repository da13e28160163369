"""ModelScope's text to video at toy size: random weights under published names."""

from __future__ import annotations

from pathlib import Path

from lavie_toys import randomized
from safetensors.torch import save_file
from videoldm.core.families import modelscope
from videoldm.core.families.modelscope_config import ModelScopeConfig
from videoldm.core.families.stable_diffusion_folders import build_unet
from videoldm.core.networks.sites import UNetLayout
from videoldm.core.networks.temporal_layers import TemporalLayers

LAYOUT = UNetLayout(channels=(32, 64), layers=1, depths=(1, 0))
TEXT = 24
CONFIG = ModelScopeConfig(layout=LAYOUT, context_width=TEXT, head_width=16)


def unet(config: ModelScopeConfig = CONFIG) -> modelscope.UNet:
    image = build_unet(config.unet_config()).to_empty(device="cpu")
    layers = TemporalLayers(config.layers_spec())
    return modelscope.UNet(randomized(image, 0), randomized(layers, 1), config)


def write(path: Path, names: str = "ldm", text: int = TEXT) -> Path:
    """Write a file of the U-Net alone, as published, for text embeddings of width `text`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    config = ModelScopeConfig(layout=LAYOUT, context_width=text, head_width=16)
    state = modelscope.to_foreign(unet(config), names)
    save_file({k: v.clone().contiguous() for k, v in state.items()}, path)
    return path
