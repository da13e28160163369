"""The parts of :class:`..factorised_unet.FactorisedUNet` except its attention, on frames
[(b t) c h w] of videos with a known number of frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layer_calls import convolution
from .group_norms import FrameGroupNorm
from .residual import over_time, per_frame, zeroed

GROUPS = 32


@dataclass(frozen=True, kw_only=True)
class VideoInputs:
    """What every layer gets besides the features.

    embedding: of the noise level and all other numbers, after SiLU, [b e] or [b t e]. text, image:
    tokens [b n d], or [b t n d] per frame, or None.
    """

    frames: int
    embedding: Tensor
    text: Tensor | None = None
    image: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class ResBlockSpec:
    """embedding: width of the embedding. scale_shift: it scales and shifts the output of the second
    norm instead of being added before it. pooled_norm: pool the norms' statistics over all frames
    of a video instead of per frame. kernel: frames that the convolutions see. over_time: spatial
    kernel sizes of the temporal convolutions that follow; empty = none."""

    embedding: int
    scale_shift: bool = False
    pooled_norm: bool = False
    kernel: int = 1
    over_time: tuple[int, ...] = ()


def convolution_3x3(
    channels: int, out: int, *, kernel: int = 1, stride: int = 1, ops=nn
) -> nn.Conv2d | nn.Conv3d:
    """A 3x3 convolution per frame, or over `kernel` frames; zero-padded in space and time."""
    if kernel == 1:
        return ops.Conv2d(channels, out, 3, stride=stride, padding=1)
    how = dict(stride=(1, stride, stride), padding=(kernel // 2, 1, 1))
    return ops.Conv3d(channels, out, (kernel, 3, 3), **how)


def convolved(layer: nn.Module, h: Tensor, frames: int, plus: Tensor | None = None) -> Tensor:
    """layer(h) + plus for a layer of :func:`convolution_3x3` and h [(b t) c h w]."""
    if not isinstance(layer, nn.Conv3d):
        return convolution(layer, h, plus)
    z = over_time(layer, h, frames)
    return z if plus is None else z + plus


class ResBlock(nn.Module):
    """Residual block of two 3x3 convolutions with the embedding between them."""

    def __init__(self, channels: int, out: int, spec: ResBlockSpec, ops=nn):
        super().__init__()
        norm = dict(eps=1e-5, pooled=spec.pooled_norm, ops=ops)
        convolution_of = dict(kernel=spec.kernel, ops=ops)
        self.scale_shift = spec.scale_shift
        self.norm1 = FrameGroupNorm(GROUPS, channels, **norm)
        self.conv1 = convolution_3x3(channels, out, **convolution_of)
        self.embed = ops.Linear(spec.embedding, 2 * out if spec.scale_shift else out)
        self.norm2 = FrameGroupNorm(GROUPS, out, **norm)
        self.conv2 = zeroed(convolution_3x3(out, out, **convolution_of))
        self.skip = ops.Conv2d(channels, out, 1) if channels != out else None
        self.over_time = TimeConvolutions(out, spec.over_time, ops) if spec.over_time else None

    def forward(self, h: Tensor, inputs: VideoInputs, *, inplace: bool = False) -> Tensor:
        """inplace: ``h`` may be overwritten."""
        frames = inputs.frames
        residual = h if self.skip is None else convolution(self.skip, h)
        z = self.norm1(h, frames, inplace=inplace and self.skip is not None)
        z = convolved(self.conv1, F.silu(z, inplace=True), frames)
        embedded = per_frame(self.embed(inputs.embedding), frames)[:, :, None, None]
        if self.scale_shift:
            scale, shift = embedded.chunk(2, dim=1)
            z = torch.addcmul(shift, self.norm2(z, frames, inplace=True), 1 + scale)
        else:
            z += embedded
            z = self.norm2(z, frames, inplace=True)
        h = convolved(self.conv2, F.silu(z, inplace=True), frames, plus=residual)
        return h if self.over_time is None else self.over_time(h, frames)


class TimeConvolutions(nn.Module):
    """A residual stack of zero-padded convolutions over three frames, each after a norm over all
    frames and SiLU. sides: their spatial kernel sizes."""

    def __init__(self, width: int, sides: Sequence[int], ops=nn):
        super().__init__()
        self.norms = nn.ModuleList(
            [FrameGroupNorm(GROUPS, width, eps=1e-5, pooled=True, ops=ops) for _ in sides]
        )
        self.convs = nn.ModuleList(
            [
                ops.Conv3d(width, width, (3, side, side), padding=(1, side // 2, side // 2))
                for side in sides
            ]
        )
        zeroed(self.convs[-1])

    def forward(self, h: Tensor, frames: int) -> Tensor:
        z = h
        for norm, conv in zip(self.norms, self.convs, strict=True):
            z = over_time(conv, F.silu(norm(z, frames), inplace=True), frames)
        return h + z
