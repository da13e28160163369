"""Temporal layers: what is put between the spatial layers of an image network to make it a video
network (Video LDM, section 3.1).

Every layer maps ``h`` [(b t), c, h, w] to the same shape and computes a residual ``f(h)`` whose
last projection starts at zero, so that an untrained layer is exactly the identity. How much of it
is used is one number, the layer's :class:`Blend`.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from .motion_attention import MotionAttention
from .positions import (
    POSITIONS,
    Positions,
    RelativeBias,
    grid_angles,
    rotary_angles,
    rotary_width,
    rotate,
    with_times,
)

Reach = Literal["place", "motion", "clip"]
EVERY_KERNEL = [
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a layer is told besides its input; each kind of layer uses what it has a use for."""

    embedding: Tensor | None = None  # [(b t), e]: the noise level and more
    context: Tensor | None = None  # features of given frames [(b t), c', h, w]
    text: Tensor | None = None  # the prompt of each clip [b, n, e]
    motions: Tensor | None = None  # [b, m, 2], see `MotionAttention`
    times: Tensor | None = None  # of the frames [t], where they are not 0, 1, 2, ...


UNTOLD = Told()


def embedded(z: Tensor, project: nn.Module | None, embedding: Tensor | None) -> Tensor:
    """Add to ``z`` [(b t), c, h, w] the projection of an embedding [(b t), e], if there is one."""
    if project is None or embedding is None:
        return z
    return z + project(F.silu(embedding))[:, :, None, None]


def joined(z: Tensor, project: nn.Module | None, context: Tensor | None) -> Tensor:
    """Add to ``z`` [(b t), c, h, w] the projection of given frames' features, if there are any."""
    return z if project is None or context is None else z + project(context)


# -------------------------------------------------------------------------------------------------
# Blending (Video LDM, section 3.1: alpha z + (1 - alpha) z').


class Blend(nn.Module):
    """Weigh a temporal layer's residual: z + strength (1 - alpha) f(z), alpha =
    sigmoid(mix_factor).

    With z' = z + f(z) this is the paper's alpha z + (1 - alpha) z', written so that f(z) = 0 gives
    z bit for bit. ``learned=False`` adds the residual whole (AnimateDiff, LaVie).
    """

    def __init__(self, *, learned: bool = True, mix_factor: float = 0.0):
        super().__init__()
        self.mix_factor = nn.Parameter(torch.tensor([mix_factor])) if learned else None

    def forward(self, z: Tensor, residual: Tensor, strength: float = 1.0) -> Tensor:
        if self.mix_factor is not None:
            # Hosts that offload weights move modules, not this number.
            residual = residual * (1 - torch.sigmoid(self.mix_factor)).to(residual)
        return z + strength * residual if strength != 1.0 else z + residual


# -------------------------------------------------------------------------------------------------
# Group normalisation, per frame or over all frames of a clip.


class FrameGroupNorm(nn.Module):
    """GroupNorm of [(b t), c, h, w] with statistics per frame, or pooled over the clip's frames."""

    def __init__(self, groups: int, channels: int, *, eps: float, pooled: bool, ops=nn):
        super().__init__()
        self.norm = ops.GroupNorm(groups, channels, eps=eps)
        self.pooled = pooled

    def forward(self, h: Tensor, frames: int) -> Tensor:
        if not self.pooled:
            return self.norm(h)
        clip = rearrange(h, "(b t) c h w -> b c t h w", t=frames)
        return rearrange(self.norm(clip), "b c t h w -> (b t) c h w")


# -------------------------------------------------------------------------------------------------
# 3D convolution.


class TemporalResBlock(nn.Module):
    """Residual block of two convolutions over time, kernel [k, s, s], optionally told the noise
    level.

    Zero padding, in time never causal: frame t sees t - (k - 1) .. t + (k - 1). spatial: s, 1 for
    each position alone, 3 where the block is to follow what moves by a position or two.
    """

    def __init__(
        self,
        channels: int,
        *,
        kernel: int = 3,
        second_kernel: int | None = None,
        spatial: int = 1,
        norm_groups: int = 32,
        eps: float = 1e-5,
        embedding: int | None = None,
        context: int | None = None,
        pooled: bool = False,
        learned_blend: bool = True,
        ops=nn,
    ):
        super().__init__()
        first, second = (
            dict(kernel_size=(k, spatial, spatial), padding=(k // 2, spatial // 2, spatial // 2))
            for k in (kernel, second_kernel or kernel)
        )
        self.norm1 = FrameGroupNorm(norm_groups, channels, eps=eps, pooled=pooled, ops=ops)
        self.conv1 = ops.Conv3d(channels, channels, **first)
        self.embed = ops.Linear(embedding, channels) if embedding else None
        self.context = zeroed(ops.Conv2d(context, channels, 1)) if context else None
        self.norm2 = FrameGroupNorm(norm_groups, channels, eps=eps, pooled=pooled, ops=ops)
        self.conv2 = zeroed(ops.Conv3d(channels, channels, **second))
        self.blend = Blend(learned=learned_blend)

    def forward(self, h: Tensor, frames: int, told: Told = UNTOLD, strength: float = 1.0) -> Tensor:
        """Given frames join before the convolutions, the embedding between them."""
        z = joined(h, self.context, told.context)
        z = over_time(self.conv1, F.silu(self.norm1(z, frames)), frames)
        z = embedded(z, self.embed, told.embedding)
        z = over_time(self.conv2, F.silu(self.norm2(z, frames)), frames)
        return self.blend(h, z, strength)


def over_time(conv: nn.Module, h: Tensor, frames: int) -> Tensor:
    """Apply a 3D convolution to [(b t), c, h, w]; channels-last memory passes without a copy."""
    clip = conv(rearrange(h, "(b t) c h w -> b c t h w", t=frames))
    return rearrange(clip, "b c t h w -> (b t) c h w")


def zeroed(module: nn.Module) -> nn.Module:
    """Set every parameter of ``module`` to zero, so that what it ends starts as the identity."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


# -------------------------------------------------------------------------------------------------
# Temporal attention.


class TemporalAttention(nn.Module):
    """Self-attention among the frames of one spatial position: tokens [n, t, d], no mask."""

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        positions: Positions = "rotary",
        max_distance: int = 32,
        ops=nn,
    ):
        super().__init__()
        if positions not in POSITIONS:
            raise ValueError(f"positions must be one of {', '.join(POSITIONS)}, not {positions!r}")
        if width % heads:
            raise ValueError(f"attention width {width} must be divisible by {heads} heads")
        self.heads, self.positions = heads, positions
        self.to_qkv = ops.Linear(width, 3 * width, bias=False)
        self.to_out = ops.Linear(width, width)
        self.bias = RelativeBias(heads, max_distance, ops) if positions == "relative" else None

    def forward(self, tokens: Tensor, times: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """``tokens`` [n, t, d] of one spatial position at ``times`` [t], or with ``grid`` = (h, w)
        those [n, t h w, d] of the whole clip."""
        if self.positions == "sinusoidal":
            tokens = with_times(tokens, times)
        q, k, v = rearrange(
            self.to_qkv(tokens), "n t (three k d) -> three n k t d", three=3, k=self.heads
        )
        if grid is not None or self.positions == "rotary":
            angles = self._angles(times, grid, q.shape[-1])
            q, k = rotate(q, angles), rotate(k, angles)
        bias = self.bias(len(times), q.device).to(q) if self.bias is not None else None
        # A whole clip has many tokens: it keeps the fused kernels even where training, for the sake
        # of all the short sequences, has switched to plain products.
        with nullcontext() if grid is None else sdpa_kernel(EVERY_KERNEL):
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.to_out(rearrange(out, "n k t d -> n t (k d)"))

    @staticmethod
    def _angles(times: Tensor, grid: tuple[int, int] | None, head_width: int) -> Tensor:
        """Angles by frame or, in a whole clip, a third each by frame, row and column."""
        width = rotary_width(head_width)
        if grid is None:
            return rotary_angles(times, width)
        pairs = width // 6
        along = rotary_angles(times, width - 4 * pairs, base=100.0)
        across = grid_angles(*grid, pairs, times.device)
        along = repeat(along, "t r -> (t s) r", s=len(across))
        return torch.cat([along, repeat(across, "s r -> (t s) r", t=len(times))], dim=-1)


class TextAttention(nn.Module):
    """Cross-attention of the tokens [b, n, d] of a clip to its text [b, m, e]."""

    def __init__(self, width: int, text_width: int, heads: int, ops=nn):
        super().__init__()
        self.heads = heads
        self.to_q = ops.Linear(width, width, bias=False)
        self.to_kv = ops.Linear(text_width, 2 * width, bias=False)
        self.to_out = ops.Linear(width, width)

    def forward(self, tokens: Tensor, text: Tensor) -> Tensor:
        q = rearrange(self.to_q(tokens), "b n (k d) -> b k n d", k=self.heads)
        k, v = rearrange(self.to_kv(text), "b m (two k d) -> two b k m d", two=2, k=self.heads)
        out = F.scaled_dot_product_attention(q, k, v)
        return self.to_out(rearrange(out, "b k n d -> b n (k d)"))


class GEGLU(nn.Module):
    """Feed-forward of inner width ``expansion`` d: value times the exact GELU of the gate
    (Shazeer 2020)."""

    def __init__(self, width: int, *, expansion: int = 4, ops=nn):
        super().__init__()
        self.inner = ops.Linear(width, 2 * expansion * width)
        self.outer = ops.Linear(expansion * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        value, gate = self.inner(tokens).chunk(2, dim=-1)
        return self.outer(value * F.gelu(gate))


class TemporalTransformer(nn.Module):
    """Normalise, project in, attend over time and (when built with ``text``) to the prompt, feed
    forward, project out with zero weights."""

    def __init__(
        self,
        channels: int,
        *,
        heads: int,
        positions: Positions = "rotary",
        max_distance: int = 32,
        norm_groups: int = 32,
        context: int | None = None,
        embedding: int | None = None,
        text: int | None = None,
        expansion: int = 4,
        learned_blend: bool = True,
        reach: Reach = "place",
        motions: int = 0,
        ops=nn,
    ):
        super().__init__()
        self.reach, self.motions = reach, motions
        self.norm = FrameGroupNorm(norm_groups, channels, eps=1e-6, pooled=False, ops=ops)
        self.embed = ops.Linear(embedding, channels) if embedding else None
        self.context = zeroed(ops.Conv2d(context, channels, 1)) if context else None
        self.project_in = ops.Linear(channels, channels)
        self.norm1 = ops.LayerNorm(channels)
        self.attention = (
            MotionAttention(channels, max(1, heads // 2), motions, positions=positions, ops=ops)
            if reach == "motion"
            else TemporalAttention(
                channels, heads, positions=positions, max_distance=max_distance, ops=ops
            )
        )
        self.norm_text = ops.LayerNorm(channels) if text else None
        self.text_attention = TextAttention(channels, text, heads, ops) if text else None
        self.norm2 = ops.LayerNorm(channels)
        self.feed_forward = GEGLU(channels, expansion=expansion, ops=ops)
        self.project_out = zeroed(ops.Linear(channels, channels))
        self.blend = Blend(learned=learned_blend)

    def forward(self, h: Tensor, frames: int, told: Told = UNTOLD, strength: float = 1.0) -> Tensor:
        """Given frames and the embedding join after the norm."""
        height, width = h.shape[-2:]
        z = embedded(self.norm(h, frames), self.embed, told.embedding)
        z = joined(z, self.context, told.context)
        shape = "(b h w) t c" if self.reach == "place" else "b (t h w) c"
        tokens = self.project_in(rearrange(z, f"(b t) c h w -> {shape}", t=frames))
        tokens = tokens + self.attention(self.norm1(tokens), *self._reached(h, frames, told))
        if self.text_attention is not None and told.text is not None:
            tokens = tokens + self._attend_to_text(self.norm_text(tokens), told.text)
        tokens = tokens + self.feed_forward(self.norm2(tokens))
        sizes = dict(t=frames, h=height, w=width)
        z = rearrange(self.project_out(tokens), f"{shape} -> (b t) c h w", **sizes)
        return self.blend(h, z, strength)

    def _reached(self, h: Tensor, frames: int, told: Told) -> tuple:
        """What attention is given besides the tokens: times and, if it leaves the position, the
        grid, and the motions that it follows."""
        times = torch.arange(frames, device=h.device) if told.times is None else told.times
        if self.reach == "place":
            return (times,)
        if self.reach == "clip":
            return times, tuple(h.shape[-2:])
        still = h.new_zeros(len(h) // frames, self.motions, 2)
        return times, tuple(h.shape[-2:]), still if told.motions is None else told.motions

    def _attend_to_text(self, tokens: Tensor, text: Tensor) -> Tensor:
        clips, count = len(text), tokens.shape[1]
        clip_tokens = rearrange(tokens, "(b s) n c -> b (s n) c", b=clips)
        return rearrange(self.text_attention(clip_tokens, text), "b (s n) c -> (b s) n c", n=count)


def per_frame(embedding: Tensor, frames: int) -> Tensor:
    """Repeat an embedding [b, e] for every frame of its clip, [(b t), e]; [b, t, e] is folded."""
    if embedding.ndim == 2:
        return repeat(embedding, "b e -> (b t) e", t=frames)
    return rearrange(embedding, "b t e -> (b t) e")


def heads_for(channels: int, width: int = 32) -> int:
    """Heads of about ``width`` channels that divide ``channels``."""
    return math.gcd(channels, max(1, channels // width)) or 1
