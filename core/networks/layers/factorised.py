"""What :class:`..factorised_unet.FactorisedUNet` is made of besides attention, on frames
[(b t) c h w] that know how many of them make a video."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layer_calls import convolution
from .residual import FrameGroupNorm, over_time, per_frame, zeroed

GROUPS = 32


@dataclass(frozen=True, kw_only=True)
class VideoInputs:
    """What every layer is handed besides the frames.

    embedding: of the noise level and all other numbers, after SiLU, [b e] or [b t e]. text, image:
    tokens [b n d], of every frame [b t n d], or None.
    """

    frames: int
    embedding: Tensor
    text: Tensor | None = None
    image: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class ResBlockSpec:
    """embedding: width of the embedding. scale_shift: it scales and shifts what the second norm
    makes, instead of being added before that. pooled_norm: norms take their statistics over all
    frames of a video, not per frame. over_time: convolutions over time follow."""

    embedding: int
    scale_shift: bool = False
    pooled_norm: bool = False
    over_time: bool = False


class ResBlock(nn.Module):
    """Two 3x3 convolutions per frame, the embedding between them, and the residual."""

    def __init__(self, channels: int, out: int, spec: ResBlockSpec, ops=nn):
        super().__init__()
        norm = dict(eps=1e-5, pooled=spec.pooled_norm, ops=ops)
        self.scale_shift = spec.scale_shift
        self.norm1 = FrameGroupNorm(GROUPS, channels, **norm)
        self.conv1 = ops.Conv2d(channels, out, 3, padding=1)
        self.embed = ops.Linear(spec.embedding, 2 * out if spec.scale_shift else out)
        self.norm2 = FrameGroupNorm(GROUPS, out, **norm)
        self.conv2 = zeroed(ops.Conv2d(out, out, 3, padding=1))
        self.skip = ops.Conv2d(channels, out, 1) if channels != out else None
        self.over_time = TimeConvolutions(out, ops) if spec.over_time else None

    def forward(self, h: Tensor, inputs: VideoInputs) -> Tensor:
        frames = inputs.frames
        z = convolution(self.conv1, F.silu(self.norm1(h, frames), inplace=True))
        embedded = per_frame(self.embed(inputs.embedding), frames)[:, :, None, None]
        if self.scale_shift:
            scale, shift = embedded.chunk(2, dim=1)
            z = torch.addcmul(shift, self.norm2(z, frames, own=True), 1 + scale)
        else:
            z += embedded
            z = self.norm2(z, frames, own=True)
        h = h if self.skip is None else convolution(self.skip, h)
        h = convolution(self.conv2, F.silu(z, inplace=True), plus=h)
        return h if self.over_time is None else self.over_time(h, frames)


class TimeConvolutions(nn.Module):
    """Four convolutions over three frames, zero beyond the video, each after a norm over all frames
    and SiLU, and the residual."""

    def __init__(self, width: int, ops=nn):
        super().__init__()
        self.norms = nn.ModuleList(
            [FrameGroupNorm(GROUPS, width, eps=1e-5, pooled=True, ops=ops) for _ in range(4)]
        )
        kernel = dict(kernel_size=(3, 1, 1), padding=(1, 0, 0))
        self.convs = nn.ModuleList([ops.Conv3d(width, width, **kernel) for _ in range(4)])
        zeroed(self.convs[-1])

    def forward(self, h: Tensor, frames: int) -> Tensor:
        z = h
        for norm, conv in zip(self.norms, self.convs, strict=True):
            z = over_time(conv, F.silu(norm(z, frames), inplace=True), frames)
        return h + z
