"""Temporal attention, and transformers with it.

:class:`TemporalTransformer` attends over the frames at each spatial position,
:class:`SpaceTimeTransformer` over all positions of all frames. Both share everything else in
:class:`TransformerLayer`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from ...diffusion.curves import Amount
from ..layer_calls import gated, plus_feed_forward
from .group_norms import FrameGroupNorm
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
from .residual import Blend, embedded, joined, zeroed
from .scales import PLAIN, Scales, scaled
from .specs import NO_INPUTS, LayerInputs, LayerSpec, module_kind

SpaceTimePositions = Literal["rotary", "rotary_and_sinusoidal"]
SPACE_TIME_POSITIONS: tuple[SpaceTimePositions, ...] = ("rotary", "rotary_and_sinusoidal")


# -------------------------------------------------------------------------------------------------
# Attention.


def check_heads(width: int, heads: int) -> None:
    """Raise ValueError unless `heads` heads divide the width of an attention."""
    if heads < 1 or width % heads:
        raise ValueError(f"attention width {width} must be divisible by {heads} heads")


def check_positions(given: str, known: tuple[str, ...]) -> None:
    """Raise ValueError for an unknown positional encoding."""
    if given not in known:
        raise ValueError(f"positions must be one of {', '.join(known)}, not {given!r}")


class TemporalAttention(nn.Module):
    """Self-attention over the frames at each spatial position, without a mask."""

    def __init__(
        self, width: int, heads: int, *, positions: Positions = "rotary", max_distance: int = 32,
        ops=nn,
    ):  # fmt: skip
        super().__init__()
        check_positions(positions, POSITIONS)
        check_heads(width, heads)
        self.heads, self.positions = heads, positions
        self.to_qkv = ops.Linear(width, 3 * width, bias=False)
        self.to_out = ops.Linear(width, width)
        self.bias = RelativeBias(heads, max_distance, ops) if positions == "relative" else None

    def forward(self, tokens: Tensor, times: Tensor, scales: Scales = PLAIN) -> Tensor:
        """``tokens`` [n, t, d] at ``times`` [t] -> [n, t, d]; scales [n, t, 1]."""
        if self.positions == "sinusoidal":
            tokens = with_times(tokens, times)
        q, k, v = _heads_of(self.to_qkv(tokens), self.heads, scales)
        if self.positions == "rotary":
            angles = rotary_angles(times, rotary_width(q.shape[-1]))
            q, k = rotate(q, angles), rotate(k, angles)
        bias = self.bias(len(times), q.device).to(q) if self.bias is not None else None
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.to_out(rearrange(out, "n k t d -> n t (k d)"))


class SpaceTimeAttention(nn.Module):
    """Self-attention over all positions of all frames, with rotary angles: a third of the rotated
    channels each for frame, row and column."""

    def __init__(self, width: int, heads: int, *, positions: SpaceTimePositions = "rotary", ops=nn):
        super().__init__()
        check_positions(positions, SPACE_TIME_POSITIONS)
        check_heads(width, heads)
        self.heads, self.positions = heads, positions
        self.to_qkv = ops.Linear(width, 3 * width, bias=False)
        self.to_out = ops.Linear(width, width)

    def forward(
        self, tokens: Tensor, times: Tensor, grid: tuple[int, int], scales: Scales = PLAIN
    ) -> Tensor:
        """``tokens`` [b, t h w, d] at ``times`` [t], ``grid`` = (h, w) -> the same shape; scales
        [b, t h w, 1]."""
        if self.positions == "rotary_and_sinusoidal":
            tokens = with_times(tokens, times)
        q, k, v = _heads_of(self.to_qkv(tokens), self.heads, scales)
        angles = space_time_angles(times, grid, q.shape[-1])
        out = F.scaled_dot_product_attention(rotate(q, angles), rotate(k, angles), v)
        return self.to_out(rearrange(out, "n k t d -> n t (k d)"))


def space_time_angles(times: Tensor, grid: tuple[int, int], head_width: int) -> Tensor:
    """Angles [t h w, r / 2] of the rotated channels of heads of `head_width` channels."""
    width = rotary_width(head_width)
    pairs = width // 6
    along = rotary_angles(times, width - 4 * pairs, base=100.0)
    across = grid_angles(*grid, pairs, times.device)
    along = repeat(along, "t r -> (t s) r", s=len(across))
    return torch.cat([along, repeat(across, "s r -> (t s) r", t=len(times))], dim=-1)


def _heads_of(qkv: Tensor, heads: int, scales: Scales) -> list[Tensor]:
    """Split fused queries, keys and values [n, t, 3 d] into [n, k, t, d / k] each, scaled."""
    q, k, v = qkv.chunk(3, dim=-1)
    q, k = scaled(q, scales.queries), scaled(k, scales.keys)
    return [rearrange(one, "n t (k d) -> n k t d", k=heads) for one in (q, k, v)]


class TextAttention(nn.Module):
    """Cross-attention from the tokens [b, n, d] of a video to its text [b, m, e]."""

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
    """Feed-forward of inner width ``expansion`` d: value times exact GELU of a gate (Shazeer
    2020)."""

    def __init__(self, width: int, *, expansion: int = 4, ops=nn):
        super().__init__()
        self.inner = ops.Linear(width, 2 * expansion * width)
        self.outer = ops.Linear(expansion * width, width)

    def forward(self, tokens: Tensor, plus: Tensor | None = None) -> Tensor:
        """The output for tokens [... d], plus ``plus`` [... d]."""
        return gated(self.inner, self.outer, tokens, plus)


# -------------------------------------------------------------------------------------------------
# Transformers.


@dataclass(frozen=True, kw_only=True)
class TransformerSpec(LayerSpec):
    """What all temporal transformers have in common.

    expansion: of the feed-forward. text: width of the prompt's tokens, None = no cross-attention.
    embedding: width of the time embedding, None = not read. context: channels of context features,
    None = not read.
    """

    heads: int
    norm_groups: int = 32
    expansion: int = 4
    text: int | None = None
    embedding: int | None = None
    context: int | None = None
    learned_blend: bool = True

    @property
    def scales_attention(self) -> bool:
        return True


class TransformerLayer(nn.Module):
    """Norm, projection in, attention over time and (if the spec says so) to the prompt,
    feed-forward, zero-initialised projection out.

    Subclasses define which tokens see each other: `layout`, their einops order, and `attend`.
    """

    layout: ClassVar[str]

    def __init__(self, width: int, spec: TransformerSpec, attention: nn.Module, ops=nn):
        super().__init__()
        self.norm = FrameGroupNorm(spec.norm_groups, width, eps=1e-6, pooled=False, ops=ops)
        self.embed = ops.Linear(spec.embedding, width) if spec.embedding else None
        self.context = zeroed(ops.Conv2d(spec.context, width, 1)) if spec.context else None
        self.project_in = ops.Linear(width, width)
        self.norm1 = ops.LayerNorm(width)
        self.attention = attention
        self.norm_text = ops.LayerNorm(width) if spec.text else None
        self.text_attention = (
            TextAttention(width, spec.text, spec.heads, ops) if spec.text else None
        )
        self.norm2 = ops.LayerNorm(width)
        self.feed_forward = GEGLU(width, expansion=spec.expansion, ops=ops)
        self.project_out = zeroed(ops.Linear(width, width))
        self.blend = Blend(learned=spec.learned_blend)

    def attend(
        self, tokens: Tensor, times: Tensor, grid: tuple[int, int], inputs: LayerInputs
    ) -> Tensor:
        """Attention of tokens in the order of `layout`, at `times` [t], `grid` = (h, w)."""
        raise NotImplementedError

    def forward(
        self, h: Tensor, frames: int, inputs: LayerInputs = NO_INPUTS, strength: Amount = 1.0
    ) -> Tensor:
        """Context features and time embedding are added after the norm."""
        grid = tuple(h.shape[-2:])
        times = torch.arange(frames, device=h.device) if inputs.times is None else inputs.times
        z = embedded(self.norm(h, frames), self.embed, inputs.embedding)
        z = joined(z, self.context, inputs.context)
        tokens = self.project_in(rearrange(z, f"(b t) c h w -> {self.layout}", t=frames))
        tokens = tokens + self.attend(self.norm1(tokens), times, grid, inputs)
        if self.text_attention is not None and inputs.text is not None:
            tokens = tokens + self._attend_to_text(self.norm_text(tokens), inputs.text)
        tokens = plus_feed_forward(self.norm2, self.feed_forward, tokens)
        sizes = dict(t=frames, h=grid[0], w=grid[1])
        z = rearrange(self.project_out(tokens), f"{self.layout} -> (b t) c h w", **sizes)
        return self.blend(h, z, strength)

    def _attend_to_text(self, tokens: Tensor, text: Tensor) -> Tensor:
        videos, count = len(text), tokens.shape[1]
        together = rearrange(tokens, "(b s) n c -> b (s n) c", b=videos)
        return rearrange(self.text_attention(together, text), "b (s n) c -> (b s) n c", n=count)


@module_kind("temporal transformer")
@dataclass(frozen=True, kw_only=True)
class TemporalTransformerSpec(TransformerSpec):
    """Attention over the frames at each position; max_distance: of relative positions."""

    positions: Positions = "rotary"
    max_distance: int = 32

    def build(self, width: int, ops=nn) -> TemporalTransformer:
        return TemporalTransformer(width, self, ops)


class TemporalTransformer(TransformerLayer):
    """See :class:`TemporalTransformerSpec`."""

    layout = "(b h w) t c"

    def __init__(self, width: int, spec: TemporalTransformerSpec, ops=nn):
        positions = dict(positions=spec.positions, max_distance=spec.max_distance)
        super().__init__(
            width, spec, TemporalAttention(width, spec.heads, **positions, ops=ops), ops
        )

    def attend(
        self, tokens: Tensor, times: Tensor, grid: tuple[int, int], inputs: LayerInputs
    ) -> Tensor:
        scales = inputs.scales.arranged("(b n) t", len(times), grid[0] * grid[1])
        return self.attention(tokens, times, scales)


@module_kind("space-time transformer")
@dataclass(frozen=True, kw_only=True)
class SpaceTimeTransformerSpec(TransformerSpec):
    """Attention of every position of every frame to all others."""

    positions: SpaceTimePositions = "rotary"

    def build(self, width: int, ops=nn) -> SpaceTimeTransformer:
        return SpaceTimeTransformer(width, self, ops)


class SpaceTimeTransformer(TransformerLayer):
    """See :class:`SpaceTimeTransformerSpec`."""

    layout = "b (t h w) c"

    def __init__(self, width: int, spec: SpaceTimeTransformerSpec, ops=nn):
        attention = SpaceTimeAttention(width, spec.heads, positions=spec.positions, ops=ops)
        super().__init__(width, spec, attention, ops)

    def attend(
        self, tokens: Tensor, times: Tensor, grid: tuple[int, int], inputs: LayerInputs
    ) -> Tensor:
        scales = inputs.scales.arranged("b (t n)", len(times), grid[0] * grid[1])
        return self.attention(tokens, times, grid, scales)
