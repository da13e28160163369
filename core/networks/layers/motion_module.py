"""AnimateDiff's motion module (Guo et al. 2023): a transformer over the frames at each position,
with self-attention only, after a spatial transformer, whose output it is added to.

It reads neither the prompt nor the noise level, and tells frames apart by sinusoidal embeddings of
their position in the window.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ...diffusion.curves import Amount
from ..layer_calls import few_at_a_time, gated, plus_feed_forward
from .group_norms import group_norm
from .low_rank import Projection, Update
from .positions import interleaved_sinusoid
from .residual import Blend, zeroed
from .scales import PLAIN, Scales, scaled
from .specs import NO_INPUTS, LayerInputs, LayerSpec, module_kind
from .transformer import check_heads

EPS = 1e-6
"""Of the group norm, whose statistics are per frame."""


@module_kind("motion module")
@dataclass(frozen=True, kw_only=True)
class MotionModuleSpec(LayerSpec):
    """positions: the most frames it takes. attentions: per transformer block, of which there are
    `blocks`. narrowing: channels of h per channel of the blocks. acts_on_image: whether it acts on
    a single frame. adds_context: whether features of a given image, as wide as h, are added before
    it. follows_camera: whether its first attention also reads features of the camera's poses.
    updates: low-rank updates of its projections, in the order in which they are added."""

    heads: int = 8
    positions: int = 32
    blocks: int = 1
    attentions: int = 2
    expansion: int = 4
    narrowing: int = 1
    norm_groups: int = 32
    acts_on_image: bool = True
    adds_context: bool = False
    follows_camera: bool = False
    updates: tuple[Update, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "updates", tuple(Update(*one) for one in self.updates))

    @property
    def max_frames(self) -> int:
        return self.positions

    @property
    def reads_views(self) -> bool:
        return True

    @property
    def scales_attention(self) -> bool:
        return True

    def inner(self, width: int) -> int:
        """Channels of the transformer blocks for an h of `width` channels."""
        return self.heads * (width // self.heads // self.narrowing)

    def build(self, width: int, ops=nn) -> MotionModule:
        return MotionModule(width, self, ops)


class MotionModule(nn.Module):
    """See :class:`MotionModuleSpec`."""

    def __init__(self, width: int, spec: MotionModuleSpec, ops=nn):
        super().__init__()
        check_heads(width, spec.heads)
        self.acts_on_image, self.adds_context = spec.acts_on_image, spec.adds_context
        self.norm = ops.GroupNorm(spec.norm_groups, width, eps=EPS)
        self.inner = inner = spec.inner(width)
        self.project_in = Projection(width, inner, "project_in", spec.updates, ops=ops)
        self.blocks = nn.ModuleList(
            [MotionBlock(inner, spec, f"blocks.{k}", ops) for k in range(spec.blocks)]
        )
        self.project_out = Projection(inner, width, "project_out", spec.updates, ops=ops)
        zeroed(self.project_out.base)
        self.blend = Blend(learned=False)

    def forward(
        self, h: Tensor, frames: int, inputs: LayerInputs = NO_INPUTS, strength: Amount = 1.0
    ) -> Tensor:
        """Attend over the frames of every video; reads times, context, views, camera and scales."""
        if self.adds_context and inputs.context is not None:
            h = self.blend(h, inputs.context, strength)
        if frames == 1 and not self.acts_on_image:
            return h
        times = torch.arange(frames, device=h.device) if inputs.times is None else inputs.times
        at = interleaved_sinusoid(times, self.inner).to(h.dtype)
        tokens = self.project_in(rearrange(group_norm(self.norm, h), "n c h w -> n (h w) c"))
        for block in self.blocks:
            tokens = block(tokens, at, inputs)
        z = rearrange(self.project_out(tokens), "n (h w) c -> n c h w", h=h.shape[-2])
        return self.blend(h, z, strength)


class MotionBlock(nn.Module):
    """Self-attentions over time and a feed-forward, on tokens [(b t), n, c]."""

    def __init__(self, width: int, spec: MotionModuleSpec, path: str, ops=nn):
        super().__init__()
        count = range(spec.attentions)
        self.norms = nn.ModuleList([ops.LayerNorm(width) for _ in count])
        self.attentions = nn.ModuleList(
            [MotionAttention(width, spec, f"{path}.attentions.{k}", ops) for k in count]
        )
        self.merge = ops.Linear(width, width) if spec.follows_camera else None
        self.norm = ops.LayerNorm(width)
        self.feed_forward = FeedForward(width, spec, f"{path}.feed_forward", ops)

    def forward(self, tokens: Tensor, at: Tensor, inputs: LayerInputs = NO_INPUTS) -> Tensor:
        """``at`` [t, c]: sinusoids, added to the input of each attention, not to the residual. In a
        view, positions count from its first frame."""
        if inputs.views is None and inputs.camera is None and not inputs.scales.differ:
            tokens = few_at_a_time(
                lambda part: self.attend(part, at, inputs), tokens, 1, self, inplace=True
            )
        elif inputs.views is None:
            tokens = self.attend(tokens, at, inputs)
        else:
            tokens = inputs.views.fused(
                lambda part, window: self.attend(
                    part, at[: len(window)], inputs.of_frames(window, len(at))
                ),
                tokens,
                len(at),
            )
        return plus_feed_forward(self.norm, self.feed_forward, tokens)

    def attend(self, tokens: Tensor, at: Tensor, inputs: LayerInputs = NO_INPUTS) -> Tensor:
        """The self-attentions in sequence, each with its residual."""
        for k, (norm, attention) in enumerate(zip(self.norms, self.attentions, strict=True)):
            read = with_positions(norm(tokens), at)
            if k == 0 and self.merge is not None and inputs.camera is not None:
                # CameraCtrl, section 3.3.
                read = read + inputs.camera_strength * self.merge(read + inputs.camera)
            tokens = attention(read, len(at), tokens, inputs.scales)
        return tokens


class MotionAttention(nn.Module):
    """Self-attention over the frames at each position, without a mask."""

    def __init__(self, width: int, spec: MotionModuleSpec, path: str, ops=nn):
        super().__init__()
        self.heads = spec.heads
        self.to_q, self.to_k, self.to_v = (
            Projection(width, width, f"{path}.{name}", spec.updates, bias=False, ops=ops)
            for name in ("to_q", "to_k", "to_v")
        )
        self.to_out = Projection(width, width, f"{path}.to_out", spec.updates, ops=ops)

    def forward(self, tokens: Tensor, frames: int, plus: Tensor, scales: Scales = PLAIN) -> Tensor:
        """tokens [(b t), n, c] -> [(b t), n, c], plus ``plus``."""
        q, k = scaled(self.to_q(tokens), scales.queries), scaled(self.to_k(tokens), scales.keys)
        q, k, v = (
            rearrange(projected, "(b t) n (k d) -> (b n) k t d", t=frames, k=self.heads)
            for projected in (q, k, self.to_v(tokens))
        )
        out = F.scaled_dot_product_attention(q, k, v)
        merged = rearrange(out, "(b n) k t d -> (b t) n (k d)", n=tokens.shape[1])
        return self.to_out(merged, plus)


class FeedForward(nn.Module):
    """GEGLU: value times the exact GELU of the gate (Shazeer 2020)."""

    def __init__(self, width: int, spec: MotionModuleSpec, path: str, ops=nn):
        super().__init__()
        inner, updates = spec.expansion * width, spec.updates
        self.inner = Projection(width, 2 * inner, f"{path}.inner", updates, ops=ops)
        self.outer = Projection(inner, width, f"{path}.outer", updates, ops=ops)

    def forward(self, tokens: Tensor, plus: Tensor) -> Tensor:
        if not any((*self.inner.strengths, *self.outer.strengths)):
            return gated(self.inner.base, self.outer.base, tokens, plus)
        value, gate = self.inner(tokens).chunk(2, dim=-1)
        return self.outer(value * F.gelu(gate), plus)


def with_positions(tokens: Tensor, at: Tensor) -> Tensor:
    """tokens [(b t), n, c] plus ``at`` [t, c]."""
    video = rearrange(tokens, "(b t) n c -> b t n c", t=len(at))
    return rearrange(video + at[:, None], "b t n c -> (b t) n c")
