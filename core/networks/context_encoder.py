"""How temporal layers read context frames (Video LDM, section 3.2): as features at every level,
with an embedding of their noise level."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .context_frames import ContextFrames
from .layers.positions import sinusoid
from .layers.specs import ModuleSpec, module_kind


@module_kind("context encoder")
@dataclass(frozen=True, kw_only=True)
class ContextEncoderSpec(ModuleSpec):
    """channels: of the context latents. width, levels: of the features. in_place: context frames
    also replace the noisy ones in the network's input, each at its own step (LVDM's mixed input),
    so that the image network sees them nearly clean."""

    channels: int
    width: int
    levels: int
    in_place: bool = False

    def build(self, width: int, ops=nn) -> ContextEncoder:
        """`width` is that of the time embedding."""
        return ContextEncoder(width, self, ops)


class ContextEncoder(nn.Module):
    """Learned downsampling of context frames: one feature map of ``width`` channels per level."""

    def __init__(self, embedding: int, spec: ContextEncoderSpec, ops=nn):
        super().__init__()
        width = spec.width
        self.first = ops.Conv2d(spec.channels + 1, width, 3, padding=1)
        self.levels = nn.ModuleList(
            [ops.Conv2d(width, width, 3, padding=1) for _ in range(spec.levels)]
        )
        self.downs = nn.ModuleList(
            [ops.Conv2d(width, width, 3, stride=2, padding=1) for _ in range(spec.levels - 1)]
        )
        self.noise_level = nn.Sequential(
            ops.Linear(width, embedding), nn.SiLU(), ops.Linear(embedding, embedding)
        )
        self.width = width

    def forward(self, context: ContextFrames, dtype: torch.dtype) -> tuple[list[Tensor], Tensor]:
        """Return feature maps [(b t), width, h_l, w_l], finest first, and an embedding [b, e]."""
        h = self.first(rearrange(context.masked, "b t c h w -> (b t) c h w").to(dtype))
        features = []
        for i, level in enumerate(self.levels):
            h = h if i == 0 else self.downs[i - 1](F.silu(h))
            h = level(F.silu(h))
            features.append(h)
        return features, self.noise_level(sinusoid(context.step, self.width).to(dtype))
