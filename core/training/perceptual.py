"""How different two images look to a network (Zhang et al. 2018, LPIPS).

    d(x, y) = sum over layers of mean over positions of w_l . (f_l(x) - f_l(y))^2

with features f_l of unit length along the channels. The published distance is that of VGG16 with
learned w, whose weights do not come with the project: :func:`lpips_from` takes them out of an LVDM
autoencoder's training checkpoint. Without them the features are those of the embedded image
autoencoder's encoder and every w is 1, see :class:`EncoderFeatures`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from ..weights.checkpoints import load_into, part

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Of VGG16: width of each stage, and how many convolutions it has."""

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""What VGG16's input is normalised by, for images in [-1, 1]."""

PREFIX = "loss.perceptual_loss."


class VggFeatures(nn.Module):
    """VGG16 up to the last ReLU of each of its five stages."""

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
    """The encoder of an image autoencoder, after each of its levels.

    It has seen what it judges in training, unlike VGG16, and nothing else: it stands in for it on
    rendered videos, not on photographs.
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
    """See the module. The features and weights are never trained."""

    def __init__(self, features: VggFeatures | EncoderFeatures):
        super().__init__()
        self.features = features
        self.weights = nn.ParameterList(torch.ones(width) for width in features.widths)
        self.requires_grad_(False).eval()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """[n] for images [n 3 h w] in [-1, 1]."""
        pairs = zip(self.features(x), self.features(y), self.weights, strict=True)
        parts = [
            ((_unit(a) - _unit(b)).square() * w[:, None, None]).sum(1).mean((1, 2))
            for a, b, w in pairs
        ]
        return torch.stack(parts).sum(0)


def _unit(features: Tensor) -> Tensor:
    return features / (features.square().sum(1, keepdim=True).sqrt() + 1e-10)


def lpips_from(state: Mapping[str, Tensor], name: str) -> PerceptualDistance:
    """The published distance, of a training checkpoint's weights or of those under PREFIX.

    Raises CheckpointError for a file that lacks some of them.
    """
    found = part(state, PREFIX) or dict(state)
    distance = PerceptualDistance(VggFeatures())
    own, index = {}, 0
    for i, (_, count) in enumerate(STAGES):
        index += i > 0  # where the pooling stands
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


def unpublished(autoencoder: AutoencoderKL) -> PerceptualDistance:
    """The distance of an image autoencoder's own features."""
    return PerceptualDistance(EncoderFeatures(autoencoder))
