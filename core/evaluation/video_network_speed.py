"""Speed of LVDM's full-size networks relative to a plain convolution; float32 on the CPU, random
weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..networks.autoencoder_3d import Autoencoder3D, Autoencoder3DConfig
from ..networks.conditions import Conditions
from ..networks.factorised_unet import FactorisedConfig, FactorisedUNet
from ..networks.layers.factorised_transformers import InterleavedTransformerSpec
from ..networks.layers.residual import channels_last
from .speed import randomize, rate

TEXT_TO_VIDEO = FactorisedConfig(
    channels=(320, 640, 1280, 1280),
    layers=2,
    attended=(True, True, True, False),
    attention=InterleavedTransformerSpec(heads=8, text=768, max_distance=16),
)
DECODER = Autoencoder3DConfig()

# FLOPs (multiplications and additions) of one call, and the shape of its input.
TEXT_TO_VIDEO_FLOP, VIDEO = 3.302e12, (1, 16, 4, 32, 32)
DECODER_FLOP, LATENTS = 2.850e12, (1, 4, 4, 32, 32)


def text_to_video(config: FactorisedConfig = TEXT_TO_VIDEO) -> Callable[[], Tensor]:
    """One forward pass of the text-to-video U-Net."""
    with torch.device("meta"):
        network = FactorisedUNet(config)
    network = channels_last(randomize(network.to_empty(device="cpu")))
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(VIDEO, generator=generator)
    given = Conditions(text=torch.randn(1, 77, config.attention.text, generator=generator))
    return lambda: network(x, torch.tensor(500), given)


def decoder(config: Autoencoder3DConfig = DECODER) -> Callable[[], Tensor]:
    """One decoding of 16 frames of 256x256."""
    module = channels_last(randomize(Autoencoder3D(config)))
    latents = torch.randn(LATENTS, generator=torch.Generator().manual_seed(0))
    return lambda: module(latents)


def report() -> tuple[dict[str, float], list[str]]:
    """(shares, lines) of both networks."""
    found, lines = {}, []
    for name, make, flop in (
        ("LVDM text to video", text_to_video, TEXT_TO_VIDEO_FLOP),
        ("LVDM 3D decoder", decoder, DECODER_FLOP),
    ):
        one = rate(make(), flop)
        found[name] = one.share
        lines.append(
            f"{name}, fp32, 16 frames of 256x256: {one.network / 1e9:.1f} GFLOP/s, "
            f"{one.share:.3f} of a plain 3x3 convolution's {one.convolution / 1e9:.1f} GFLOP/s"
        )
    return found, lines
