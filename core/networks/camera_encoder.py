"""CameraCtrl's pose encoder (He et al. 2024, section 3.3): rays through pixels to features at every
level, which temporal layers add to the input of their attention."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .image_conditions import encoder_blocks
from .layers.motion_module import MotionBlock, MotionModuleSpec
from .layers.positions import interleaved_sinusoid
from .layers.specs import ModuleSpec, module_kind

COORDINATES = 6
"""Of a ray, see `CameraPath.rays`."""


@module_kind("camera encoder")
@dataclass(frozen=True, kw_only=True)
class CameraEncoderSpec(ModuleSpec):
    """widths: of the features per level, those of the image network. blocks: per level. shuffle:
    pixels per latent position along one side. positions: the most frames it takes."""

    widths: tuple[int, ...]
    blocks: int = 2
    heads: int = 8
    positions: int = 16
    shuffle: int = 8

    def build(self, width: int, ops=nn) -> CameraEncoder:
        return CameraEncoder(self, ops)


class CameraEncoder(nn.Module):
    """Convolutions per frame alternating with attention over time, see
    :class:`CameraEncoderSpec`."""

    def __init__(self, spec: CameraEncoderSpec, ops=nn):
        super().__init__()
        self.spec = spec
        channels = COORDINATES * spec.shuffle**2
        self.conv_in = ops.Conv2d(channels, spec.widths[0], 3, padding=1)
        self.convolutions = nn.ModuleList(list(encoder_blocks(spec, ops)))
        block = MotionModuleSpec(heads=spec.heads, attentions=1)
        widths = [width for width in spec.widths for _ in range(spec.blocks)]
        self.attentions = nn.ModuleList(
            [MotionBlock(width, block, "camera", ops) for width in widths]
        )

    def forward(self, rays: Tensor) -> list[Tensor]:
        """rays [t 6 H W] -> tokens [t, (h w), c] per level, finest first."""
        frames = len(rays)
        if frames > self.spec.positions:
            raise ValueError(
                f"the camera encoder sees at most {self.spec.positions} frames together, but "
                f"{frames} were given; longer videos need windows"
            )
        h = self.conv_in(F.pixel_unshuffle(rays, self.spec.shuffle))
        features, times = [], torch.arange(frames, device=h.device)
        for k, (conv, attention) in enumerate(zip(self.convolutions, self.attentions, strict=True)):
            h = conv(h)
            at = interleaved_sinusoid(times, h.shape[1]).to(h.dtype)
            tokens = attention(rearrange(h, "t c h w -> t (h w) c"), at)
            h = rearrange(tokens, "t (h w) c -> t c h w", h=h.shape[-2])
            if k % self.spec.blocks == self.spec.blocks - 1:
                features.append(tokens)
        return features
