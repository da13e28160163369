"""The Inflated 3D ConvNet (Carreira & Zisserman 2017), the feature extractor of the FVD.

Its weights, trained on Kinetics-400, do not come with the project: :func:`load_i3d` reads the
published PyTorch file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..weights.checkpoints import load_into
from ..weights.weight_files import read_weights

CLASSES, SIDE, LEAST_FRAMES = 400, 224, 9

MIXED = {
    "Mixed_3b": (192, (64, 96, 128, 16, 32, 32)),
    "Mixed_3c": (256, (128, 128, 192, 32, 96, 64)),
    "Mixed_4b": (480, (192, 96, 208, 16, 48, 64)),
    "Mixed_4c": (512, (160, 112, 224, 24, 64, 64)),
    "Mixed_4d": (512, (128, 128, 256, 24, 64, 64)),
    "Mixed_4e": (512, (112, 144, 288, 32, 64, 64)),
    "Mixed_4f": (528, (256, 160, 320, 32, 128, 128)),
    "Mixed_5b": (832, (256, 160, 320, 32, 128, 128)),
    "Mixed_5c": (832, (384, 192, 384, 48, 128, 128)),
}
"""Input channels, and output channels of b0, b1a, b1b, b2a, b2b and b3b."""

POOLS = {"Mixed_4b": (3, 2), "Mixed_5b": (2, 2)}
"""Kernel and stride of the max pooling before these blocks."""

Triple = Sequence[int]


def same(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    """TensorFlow's "same" padding of [b c t h w]: an axis of n becomes ceil(n / stride); the
    smaller half of the zeros is in front."""
    pads = []
    for size, k, s in reversed(list(zip(x.shape[2:], kernel, stride, strict=True))):
        total = max(k - (size % s or s), 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads)


def pooled(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    return F.max_pool3d(same(x, kernel, stride), kernel, stride)


class Unit(nn.Module):
    """Convolution, batch norm and ReLU."""

    def __init__(self, channels: int, out: int, kernel: int = 1, stride: int = 1):
        super().__init__()
        self.kernel, self.stride = (kernel,) * 3, (stride,) * 3
        self.conv3d = nn.Conv3d(channels, out, kernel, stride=stride, bias=False)
        self.bn = nn.BatchNorm3d(out)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv3d(same(x, self.kernel, self.stride))))


class Mixed(nn.Module):
    """An Inception block of four parallel branches."""

    def __init__(self, channels: int, widths: Sequence[int]):
        super().__init__()
        one, two_in, two, three_in, three, four = widths
        self.b0 = Unit(channels, one)
        self.b1a, self.b1b = Unit(channels, two_in), Unit(two_in, two, 3)
        self.b2a, self.b2b = Unit(channels, three_in), Unit(three_in, three, 3)
        self.b3b = Unit(channels, four)

    def forward(self, x: Tensor) -> Tensor:
        near = pooled(x, (3, 3, 3), (1, 1, 1))
        parts = self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(near)
        return torch.cat(parts, dim=1)


class I3D(nn.Module):
    """Videos [b t 3 224 224] in [-1, 1] to logits [b 400], averaged over time."""

    def __init__(self):
        super().__init__()
        self.Conv3d_1a_7x7 = Unit(3, 64, 7, 2)
        self.Conv3d_2b_1x1 = Unit(64, 64)
        self.Conv3d_2c_3x3 = Unit(64, 192, 3)
        for name, (channels, widths) in MIXED.items():
            self.add_module(name, Mixed(channels, widths))
        self.logits = nn.ModuleDict({"conv3d": nn.Conv3d(1024, CLASSES, 1)})

    def forward(self, video: Tensor) -> Tensor:
        if video.shape[1] < LEAST_FRAMES:
            raise ValueError(
                f"The network needs at least {LEAST_FRAMES} frames, got {video.shape[1]}."
            )
        h = self.Conv3d_1a_7x7(rearrange(video, "b t c h w -> b c t h w"))
        h = self.Conv3d_2b_1x1(pooled(h, (1, 3, 3), (1, 2, 2)))
        h = pooled(self.Conv3d_2c_3x3(h), (1, 3, 3), (1, 2, 2))
        for name in MIXED:
            if name in POOLS:
                kernel, stride = POOLS[name]
                h = pooled(h, (kernel,) * 3, (stride,) * 3)
            h = getattr(self, name)(h)
        h = F.avg_pool3d(h, (2, 7, 7), 1)
        return self.logits["conv3d"](h).mean((2, 3, 4))


def preprocessed(frames: Tensor) -> Tensor:
    """Videos [b t h w 3] in 0 .. 255 as the network's input [b t 3 224 224] in [-1, 1], resized
    bilinearly without antialiasing."""
    flat = rearrange(frames.float(), "b t h w c -> (b t) c h w")
    sized = F.interpolate(flat, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    return rearrange(2 * sized / 255 - 1, "(b t) c h w -> b t c h w", t=frames.shape[1])


def load_i3d(path: Path) -> I3D:
    """Load the network from a file with the published keys; CheckpointError for other files."""
    return from_state(read_weights(path), path.name)


def from_state(state: dict[str, Tensor], name: str) -> I3D:
    with torch.device("meta"):
        module = I3D()
    return load_into(module, state, f"the I3D network of {name}").eval()
