"""Perceptual distance of images (Zhang et al. 2018, LPIPS).

    d(x, y) = sum over layers of mean over positions of w_l . (f_l(x) - f_l(y))^2

with features f_l of unit length along the channels. The published distance uses VGG16 and learned
w, whose weights do not come with the project: :func:`lpips_from` reads them from an LVDM
autoencoder's training checkpoint. Without them, :func:`encoder_distance` uses the features of the
embedded image autoencoder's encoder and w = 1.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from ..weights.checkpoints import load_into, part

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Width and number of convolutions of each stage of VGG16."""

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Normalisation of VGG16's input, for images in [-1, 1]."""

PREFIX = "loss.perceptual_loss."
"""Of the distance's keys in a training checkpoint."""


class VggFeatures(nn.Module):
    """VGG16; its features are the outputs of the last ReLU of each of the five stages."""

    widths = tuple(width for width, _ in STAGES)

    def __init__(self):
        super().__init__()
        self.stages, channels = nn.ModuleList(), 3
        for width, count in STAGES:
            widths = [channels, *[width] * (count - 1)]
            self.stages.append(nn.ModuleList(nn.Conv2d(w, width, 3, padding=1) for w in widths))
            channels = width

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features of images [n 3 h w] in [-1, 1], finest first."""
        shift, scale = (x.new_tensor(v).reshape(1, 3, 1, 1) for v in (SHIFT, SCALE))
        h, found = (x - shift) / scale, []
        for i, stage in enumerate(self.stages):
            h = F.max_pool2d(h, 2) if i else h
            for conv in stage:
                h = F.relu(conv(h))
            found.append(h)
        return found


class EncoderFeatures(nn.Module):
    """The encoder of an image autoencoder; its features are the outputs of each level.

    Trained only on the frames it compares, it can replace VGG16 for rendered videos but not for
    photographs.
    """

    def __init__(self, autoencoder: AutoencoderKL):
        super().__init__()
        self.encoder = autoencoder.encoder
        self.widths = tuple(autoencoder.config.block_out_channels)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features of images [n 3 h w] in [-1, 1], finest first."""
        h, found = self.encoder.conv_in(x), []
        for level in self.encoder.down_blocks:
            for block in level.resnets:
                h = block(h, None)
            found.append(h)
            for down in level.downsamplers or ():
                h = down(h)
        return found


class PerceptualDistance(nn.Module):
    """The distance of the module's docstring; features and weights are frozen."""

    def __init__(self, features: VggFeatures | EncoderFeatures):
        super().__init__()
        self.features = features
        self.weights = nn.ParameterList(torch.ones(width) for width in features.widths)
        self.requires_grad_(False).eval()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Distances [n] of images [n 3 h w] in [-1, 1]."""
        pairs = zip(self.features(x), self.features(y), self.weights, strict=True)
        parts = [
            ((_unit(a) - _unit(b)).square() * w[:, None, None]).sum(1).mean((1, 2))
            for a, b, w in pairs
        ]
        return torch.stack(parts).sum(0)


def _unit(features: Tensor) -> Tensor:
    return features / (features.square().sum(1, keepdim=True).sqrt() + 1e-10)


def lpips_from(state: Mapping[str, Tensor], name: str) -> PerceptualDistance:
    """The published distance, with the weights under PREFIX, or of a state without the prefix.

    Raises CheckpointError if some are missing.
    """
    found = part(state, PREFIX) or dict(state)
    distance = PerceptualDistance(VggFeatures())
    own, index = {}, 0
    for i, (_, count) in enumerate(STAGES):
        index += i > 0  # skip the pooling
        for j in range(count):
            for end in ("weight", "bias"):
                key = f"net.slice{i + 1}.{index}.{end}"
                _take(found, key, own, f"features.stages.{i}.{j}.{end}")
            index += 2
        _take(found, f"lin{i}.model.1.weight", own, f"weights.{i}")
    own = {k: v.flatten() if k.startswith("weights.") else v for k, v in own.items()}
    return load_into(distance, own, f"the perceptual distance of {name}").requires_grad_(False)


def _take(found: Mapping[str, Tensor], key: str, own: dict[str, Tensor], name: str) -> None:
    if key in found:
        own[name] = found[key]


def encoder_distance(autoencoder: AutoencoderKL) -> PerceptualDistance:
    """The distance by the features of an image autoencoder's encoder."""
    return PerceptualDistance(EncoderFeatures(autoencoder))
