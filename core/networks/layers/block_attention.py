"""LaVie's temporal layers (Wang et al. 2023): temporal attention inside a transformer block of the
image network, and residual blocks over time and space after its levels.

Like the layers in :mod:`.residual`, each of them starts as the identity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ...diffusion.curves import Amount
from ..layer_calls import convolution, few_at_a_time, linear
from .group_norms import FrameGroupNorm
from .residual import Blend, TemporalResBlockSpec, embedded, zeroed
from .scales import PLAIN, Scales, scaled
from .specs import NO_INPUTS, BlockPlace, LayerInputs, LayerSpec, check_block_place, module_kind
from .transformer import check_heads, check_positions

BlockPositions = Literal["none", "rotary_and_bias"]
BLOCK_POSITIONS: tuple[BlockPositions, ...] = ("none", "rotary_and_bias")

ROTATED = 32
"""Channels of a head that are rotated, whatever its width."""

BUCKETS, MAX_DISTANCE = 32, 32


# --------------------------------------------------------------------------------------------------
# Positions.


def relative_buckets(
    frames: int,
    device: torch.device | str = "cpu",
    *,
    buckets: int = BUCKETS,
    max_distance: int = MAX_DISTANCE,
) -> Tensor:
    """The row of the bias table for every pair of frames, [t query, t key].

    Half of the rows are for keys in the future. In each half, small distances have a row each;
    larger ones share rows whose ranges grow logarithmically up to ``max_distance`` (T5, Raffel
    et al. 2020, section 2.1).
    """
    half = buckets // 2
    exact = half // 2
    at = torch.arange(frames, device=device)
    offset = at[:, None] - at[None, :]
    distance = offset.abs()
    # In float32, the order of operations decides between two rows at their border.
    ratio = torch.log(distance.clamp(min=1).float() / exact) / math.log(max_distance / exact)
    far = (exact + (ratio * (half - exact)).long()).clamp(max=half - 1)
    return half * (offset < 0) + torch.where(distance < exact, distance, far)


class BucketedBias(nn.Module):
    """A learned bias per head for every bucket of distances between frames."""

    def __init__(self, heads: int, ops=nn):
        super().__init__()
        self.table = ops.Embedding(BUCKETS, heads)

    def forward(self, frames: int, device: torch.device | str | None = None) -> Tensor:
        """Return the bias [k, t query, t key]; see :class:`.positions.RelativeBias`."""
        buckets = relative_buckets(frames, device or self.table.weight.device)
        return rearrange(self.table(buckets), "q t k -> k q t")


def rotary_phases(
    frames: int, device: torch.device | str = "cpu", *, rotated: int = ROTATED
) -> Tensor:
    """exp(i p 10000^(-2j / rotated)) for frame p and channel pair j, complex [t, rotated / 2] (Su
    et al. 2021, eq. 15)."""
    frequencies = rotary_frequencies(rotated).to(device)
    angles = torch.arange(frames, device=device).float()[:, None] * frequencies
    return torch.polar(torch.ones_like(angles), angles)


def rotary_frequencies(rotated: int = ROTATED) -> Tensor:
    """[rotated / 2] in radians per frame."""
    return 10000.0 ** (-torch.arange(0, rotated, 2).float() / rotated)


def turn(x: Tensor, phases: Tensor) -> Tensor:
    """Multiply adjacent channel pairs of ``x`` [..., d], as complex numbers, by ``phases``
    (broadcast to [..., r]); channels from 2 r on are not changed."""
    rotated = 2 * phases.shape[-1]
    pairs = torch.view_as_complex(x[..., :rotated].float().unflatten(-1, (-1, 2)))
    turned = torch.view_as_real(pairs * phases).flatten(-2).to(x.dtype)
    return turned if x.shape[-1] == rotated else torch.cat([turned, x[..., rotated:]], dim=-1)


# --------------------------------------------------------------------------------------------------
# Attention inside a transformer block.


@module_kind("attention in block")
@dataclass(frozen=True, kw_only=True)
class BlockAttentionSpec(LayerSpec):
    """Temporal attention inside a transformer block.

    positions: "none", or rotary embeddings together with a learned bias. block_place: before or
    after the block's feed-forward.
    """

    heads: int
    positions: BlockPositions = "rotary_and_bias"
    block_place: BlockPlace = "before_feed_forward"
    learned_blend: bool = False

    def __post_init__(self) -> None:
        check_positions(self.positions, BLOCK_POSITIONS)
        check_block_place(self.block_place)

    @property
    def place(self) -> BlockPlace:
        return self.block_place

    @property
    def scales_attention(self) -> bool:
        return True

    def build(self, width: int, ops=nn) -> BlockAttention:
        return BlockAttention(width, self, ops)


class BlockAttention(nn.Module):
    """Attention over the frames at each spatial position, on the tokens of a transformer block.

    Maps tokens [(b t), n, c] to tokens: norm, attention, residual.
    """

    def __init__(self, width: int, spec: BlockAttentionSpec, ops=nn):
        super().__init__()
        heads, positions = spec.heads, spec.positions
        check_heads(width, heads)
        if positions == "rotary_and_bias" and width // heads < 2:
            raise ValueError(f"heads of {width // heads} channels have no pairs to rotate")
        self.heads = heads
        self.norm = ops.LayerNorm(width)
        self.to_q = ops.Linear(width, width, bias=False)
        self.to_k = ops.Linear(width, width, bias=False)
        self.to_v = ops.Linear(width, width, bias=False)
        self.to_out = zeroed(ops.Linear(width, width))
        self.bias = BucketedBias(heads, ops) if positions == "rotary_and_bias" else None
        self.blend = Blend(learned=spec.learned_blend)

    def forward(
        self, tokens: Tensor, frames: int, inputs: LayerInputs = NO_INPUTS, strength: Amount = 1.0
    ) -> Tensor:
        """Attend over the ``frames`` of every video; of the inputs, only scales are read."""
        scales, varies = inputs.scales, isinstance(strength, Tensor)
        is_sum = self.blend.mix_factor is None and not varies and strength == 1.0

        def blended(part: Tensor) -> Tensor:
            if is_sum:
                return self.attend(self.norm(part), frames, plus=part, scales=scales)
            return self.blend(part, self.attend(self.norm(part), frames, scales=scales), strength)

        if varies or scales.differ:
            return blended(tokens)
        return few_at_a_time(blended, tokens, 1, self)

    def attend(
        self, tokens: Tensor, frames: int, plus: Tensor | None = None, scales: Scales = PLAIN
    ) -> Tensor:
        """The attention alone, plus ``plus``: tokens [(b t), n, c] -> [(b t), n, c]."""
        q = scaled(linear(self.to_q, tokens), scales.queries)
        k = scaled(linear(self.to_k, tokens), scales.keys)
        q, k, v = (
            rearrange(projected, "(b t) n (k d) -> b t n k d", t=frames, k=self.heads)
            for projected in (q, k, linear(self.to_v, tokens))
        )
        bias = None
        if self.bias is not None:
            bias = self.bias(frames, q.device).to(q)
            phases = rotary_phases(frames, q.device, rotated=min(ROTATED, q.shape[-1] // 2 * 2))
            q, k = (turn(x, phases[:, None, None]) for x in (q, k))
        # For a single video these are views: positions become the batch without a copy.
        q, k, v = (rearrange(x, "b t n k d -> (b n) k t d") for x in (q, k, v))
        out = F.scaled_dot_product_attention(
            q, k, v, attn_mask=None if bias is None else bias[None]
        )
        merged = rearrange(out, "(b n) k t d -> (b t) n (k d)", n=tokens.shape[1])
        return linear(self.to_out, merged, plus)


# --------------------------------------------------------------------------------------------------
# Residual blocks over time, then over space, after a level.


class PooledResBlock(nn.Module):
    """Residual block of two 3x3 convolutions per frame with time embedding; its group norms pool
    statistics over all frames of a video."""

    def __init__(self, channels: int, *, norm_groups: int, eps: float, embedding: int, ops=nn):
        super().__init__()
        norm = dict(eps=eps, pooled=True, ops=ops)
        self.norm1 = FrameGroupNorm(norm_groups, channels, **norm)
        self.conv1 = ops.Conv2d(channels, channels, 3, padding=1)
        self.embed = ops.Linear(embedding, channels)
        self.norm2 = FrameGroupNorm(norm_groups, channels, **norm)
        self.conv2 = ops.Conv2d(channels, channels, 3, padding=1)

    def forward(self, h: Tensor, frames: int, embedding: Tensor) -> Tensor:
        """``h`` [(b t), c, h, w], ``embedding`` [(b t), e]."""
        z = convolution(self.conv1, F.silu(self.norm1(h, frames)))
        z = embedded(z, self.embed, embedding)
        return h + convolution(self.conv2, F.silu(self.norm2(z, frames)))


@module_kind("temporal module")
@dataclass(frozen=True, kw_only=True)
class TemporalModuleSpec(LayerSpec):
    """Residual blocks over time and over space, both with time embedding."""

    embedding: int
    norm_groups: int = 32
    eps: float = 1e-6
    learned_blend: bool = False

    def build(self, width: int, ops=nn) -> TemporalModule:
        return TemporalModule(width, self, ops)


class TemporalModule(nn.Module):
    """Residual blocks over time (kernels 5 and 3) and over space (3x3), then a zero-initialised 1x1
    convolution, added to the input [(b t), c, h, w]."""

    def __init__(self, width: int, spec: TemporalModuleSpec, ops=nn):
        super().__init__()
        shared = dict(norm_groups=spec.norm_groups, eps=spec.eps, embedding=spec.embedding)
        self.over_time = TemporalResBlockSpec(
            kernel=5, second_kernel=3, pooled_norm=True, learned_blend=False, **shared
        ).build(width, ops)
        self.over_space = PooledResBlock(width, **shared, ops=ops)
        self.project_out = zeroed(ops.Conv2d(width, width, 1))
        self.blend = Blend(learned=spec.learned_blend)

    def forward(
        self, h: Tensor, frames: int, inputs: LayerInputs = NO_INPUTS, strength: Amount = 1.0
    ) -> Tensor:
        z = self.over_time(h, frames, LayerInputs(embedding=inputs.embedding))
        z = self.over_space(z, frames, inputs.embedding)
        return self.blend(h, convolution(self.project_out, z), strength)
