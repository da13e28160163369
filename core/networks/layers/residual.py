"""The temporal residual block of 3D convolutions (Video LDM, section 3.1), and parts of all
temporal layers.

Every layer computes a residual ``f(h)`` whose last projection starts at zero, so that an untrained
layer is exactly the identity. A single number weights it, the layer's :class:`Blend`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from ...diffusion.curves import Amount
from .group_norms import FrameGroupNorm
from .specs import NO_INPUTS, LayerInputs, LayerSpec, module_kind


def embedded(z: Tensor, project: nn.Module | None, embedding: Tensor | None) -> Tensor:
    """Add the projection of an embedding [(b t), e], if any, to ``z`` [(b t), c, h, w]."""
    if project is None or embedding is None:
        return z
    return z + project(F.silu(embedding))[:, :, None, None]


def joined(z: Tensor, project: nn.Module | None, context: Tensor | None) -> Tensor:
    """Add the projection of context features, if any, to ``z`` [(b t), c, h, w]."""
    return z if project is None or context is None else z + project(context)


# -------------------------------------------------------------------------------------------------
# Blending (Video LDM, section 3.1: alpha z + (1 - alpha) z').


class Blend(nn.Module):
    """Weight a temporal layer's residual: z + strength (1 - alpha) f(z), alpha =
    sigmoid(mix_factor).

    With z' = z + f(z) this is the paper's alpha z + (1 - alpha) z', written so that f(z) = 0 gives
    z bit for bit. ``learned=False`` adds the residual unweighted (AnimateDiff, LaVie). fixed:
    mix_factor is alpha itself. spares_images: independent images are not changed.
    """

    def __init__(
        self,
        *,
        learned: bool = True,
        mix_factor: float = 0.0,
        fixed: bool = False,
        spares_images: bool = False,
    ):
        super().__init__()
        self.mix_factor = nn.Parameter(torch.tensor([mix_factor])) if learned else None
        self.fixed, self.spares_images = fixed, spares_images

    def forward(
        self,
        z: Tensor,
        residual: Tensor,
        strength: Amount = 1.0,
        image_only: Tensor | None = None,
    ) -> Tensor:
        """z, residual: [(b t), ...]; a strength that is a tensor is broadcast to them. image_only:
        [(b t)], nonzero for independent images."""
        if self.spares_images and image_only is not None:
            spared = image_only.reshape(-1, *[1] * (z.ndim - 1)) != 0
            residual = residual.masked_fill(spared, 0.0)
        if self.mix_factor is not None:
            alpha = self.mix_factor if self.fixed else torch.sigmoid(self.mix_factor)
            # Hosts that offload weights move modules, but not this parameter.
            strength = (1 - alpha).to(z) * strength
        if isinstance(strength, Tensor):
            return torch.addcmul(z, strength.to(z), residual)
        return z + strength * residual if strength != 1.0 else z + residual


# -------------------------------------------------------------------------------------------------
# 3D convolution.


@module_kind("residual convolution")
@dataclass(frozen=True, kw_only=True)
class TemporalResBlockSpec(LayerSpec):
    """Residual block of two temporal convolutions with kernels [k, s, s].

    kernel, second_kernel: k in frames; the second is like the first unless given. spatial: s, 1 for
    each position by itself, 3 to follow motion of a position or two. embedding: width of the time
    embedding, None = not read. context: channels of context features, None = not read. pooled_norm:
    statistics over all frames. fixed_blend, spares_images: see :class:`Blend`.
    """

    kernel: int = 3
    second_kernel: int | None = None
    spatial: int = 1
    norm_groups: int = 32
    eps: float = 1e-5
    embedding: int | None = None
    context: int | None = None
    pooled_norm: bool = False
    learned_blend: bool = True
    fixed_blend: bool = False
    spares_images: bool = False

    @property
    def reach(self) -> int | None:
        if self.pooled_norm:
            return None
        return self.kernel // 2 + (self.second_kernel or self.kernel) // 2

    @property
    def reads_image_only(self) -> bool:
        return self.spares_images

    def build(self, width: int, ops=nn) -> TemporalResBlock:
        return TemporalResBlock(width, self, ops)


class TemporalResBlock(nn.Module):
    """Residual block of two convolutions over time, see :class:`TemporalResBlockSpec`.

    Zero-padded and never causal: each convolution sees k // 2 frames on either side.
    """

    def __init__(self, width: int, spec: TemporalResBlockSpec, ops=nn):
        super().__init__()
        side = spec.spatial
        first, second = (
            dict(kernel_size=(k, side, side), padding=(k // 2, side // 2, side // 2))
            for k in (spec.kernel, spec.second_kernel or spec.kernel)
        )
        norm = dict(eps=spec.eps, pooled=spec.pooled_norm, ops=ops)
        self.norm1 = FrameGroupNorm(spec.norm_groups, width, **norm)
        self.conv1 = ops.Conv3d(width, width, **first)
        self.embed = ops.Linear(spec.embedding, width) if spec.embedding else None
        self.context = zeroed(ops.Conv2d(spec.context, width, 1)) if spec.context else None
        self.norm2 = FrameGroupNorm(spec.norm_groups, width, **norm)
        self.conv2 = zeroed(ops.Conv3d(width, width, **second))
        self.blend = Blend(
            learned=spec.learned_blend, fixed=spec.fixed_blend, spares_images=spec.spares_images
        )

    def forward(
        self, h: Tensor, frames: int, inputs: LayerInputs = NO_INPUTS, strength: Amount = 1.0
    ) -> Tensor:
        """Context features are added before the convolutions, the time embedding between them."""
        z = joined(h, self.context, inputs.context)
        z = over_time(self.conv1, F.silu(self.norm1(z, frames), inplace=True), frames)
        z = embedded(z, self.embed, inputs.embedding)
        z = over_time(self.conv2, F.silu(self.norm2(z, frames, inplace=True), inplace=True), frames)
        return self.blend(h, z, strength, inputs.image_only)


def over_time(conv: nn.Module, h: Tensor, frames: int) -> Tensor:
    """Apply a 3D convolution to [(b t), c, h, w]; channels-last memory is not copied."""
    video = conv(rearrange(h, "(b t) c h w -> b c t h w", t=frames))
    return rearrange(video, "b c t h w -> (b t) c h w")


def zeroed(module: nn.Module) -> nn.Module:
    """Set all parameters of ``module`` to zero, so that the residual it ends starts at zero."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def channels_last(module: nn.Module) -> nn.Module:
    """Store convolution weights in the layout of the activations, so that calls need no
    conversion."""
    for parameter in module.parameters():
        # Weights expanded from a single number are placeholders; a copy would allocate them.
        if parameter.ndim == 4 and parameter.is_contiguous():
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        elif parameter.ndim == 5 and parameter.is_contiguous():
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
    return module


def features_last(h: Tensor) -> Tensor:
    """Features [n c h w] or [b c t h w] in channels-last memory, in which convolutions over space
    and over time are fastest; unchanged if gradients are needed."""
    if torch.is_grad_enabled():
        return h
    layout = torch.channels_last if h.ndim == 4 else torch.channels_last_3d
    return h.contiguous(memory_format=layout)


def per_frame(embedding: Tensor, frames: int) -> Tensor:
    """Repeat an embedding [b, e] for every frame, [(b t), e]; [b, t, e] is only folded."""
    if embedding.ndim == 2:
        return repeat(embedding, "b e -> (b t) e", t=frames)
    return rearrange(embedding, "b t e -> (b t) e")


def heads_for(channels: int, width: int = 32) -> int:
    """A number of heads of about ``width`` channels that divides ``channels``."""
    return math.gcd(channels, max(1, channels // width)) or 1
