"""The three forms of attention after a residual block of space-time factorised U-Nets.

    SplitAttentionSpec          LVDM, unconditional, prediction, interpolation
    InterleavedTransformerSpec  LVDM, text to video
    StackedTransformersSpec     VideoCrafter

Each spec builds a layer `layer(h [(b t) c h w], inputs) -> h`, which includes the residual. Tokens
are [(b t) s c], also where attention is over the frames at one position.
"""

from __future__ import annotations

from dataclasses import dataclass

from einops import rearrange
from torch import Tensor, nn

from ..layer_calls import linear, plus_feed_forward
from .factorised import GROUPS, VideoInputs
from .group_norms import FrameGroupNorm
from .relative_attention import Attention, PlainAttention, TransposedRelativeAttention
from .residual import zeroed
from .transformer import GEGLU


def tokens_of(h: Tensor) -> Tensor:
    """Frames [(b t) c h w] as tokens [(b t) s c]."""
    return rearrange(h, "n c h w -> n (h w) c")


def frames_like(tokens: Tensor, h: Tensor) -> Tensor:
    """Inverse of :func:`tokens_of`, for frames of the size of h."""
    return rearrange(tokens, "n (h w) c -> n c h w", h=h.shape[-2])


def to_prompt(attention: Attention, norm: nn.Module, tokens: Tensor, inputs: VideoInputs) -> Tensor:
    """tokens [(b t) s c] plus cross-attention from the normalised tokens to text and image, which
    are both per video or both per frame."""
    text, image = inputs.text, inputs.image
    if text is None:
        raise ValueError("the network attends to text, but none was given")
    if image is not None and image.ndim != text.ndim:
        raise ValueError(
            f"text of shape {list(text.shape)} and an image of shape {list(image.shape)} must "
            "both be per video or both be per frame"
        )
    if text.ndim == 4:
        text, image = (x if x is None else x.flatten(0, 1) for x in (text, image))
    rows = tokens.reshape(len(text), -1, tokens.shape[-1])
    return attention.to_context(norm, rows, text, image).reshape(tokens.shape)


# --------------------------------------------------------------------------------------------------
# LVDM without text.


@dataclass(frozen=True, kw_only=True)
class SplitAttentionSpec:
    """Attention in space, then in time. heads: at every width; None = as many as head_width
    channels each make. max_distance: frames at which distances are clipped."""

    heads: int | None
    max_distance: int
    head_width: int | None = None

    text: None = None
    image: None = None

    def heads_at(self, width: int) -> int:
        return self.heads or width // self.head_width

    def build(self, width: int, ops=nn) -> SplitAttention:
        return SplitAttention(width, self, ops)


class SplitAttention(nn.Module):
    """See :class:`SplitAttentionSpec`; the second norm is over the frames at each position."""

    def __init__(self, width: int, spec: SplitAttentionSpec, ops=nn):
        super().__init__()
        self.space_norm = FrameGroupNorm(GROUPS, width, eps=1e-5, ops=ops)
        heads = spec.heads_at(width)
        self.space = PlainAttention(width, heads, ops)
        self.time_norm = ops.GroupNorm(GROUPS, width, eps=1e-5)
        self.time = TransposedRelativeAttention(width, heads, spec.max_distance, ops)
        zeroed(self.space.to_out)
        zeroed(self.time.to_out)

    def forward(self, h: Tensor, inputs: VideoInputs) -> Tensor:
        tokens = tokens_of(h) + self.space(tokens_of(self.space_norm(h, inputs.frames)))
        rows = rearrange(tokens, "(b t) s c -> (b s) t c", t=inputs.frames)
        rows = self.time(self.time_norm(rows.mT).mT)
        rows = rearrange(rows, "(b s) t c -> (b t) s c", s=tokens.shape[1])
        return frames_like(tokens + rows, h)


# --------------------------------------------------------------------------------------------------
# LVDM with text.


@dataclass(frozen=True, kw_only=True)
class InterleavedTransformerSpec:
    """A transformer that alternates attention over space and over time. text: width of the text's
    tokens. heads, head_width, max_distance: see :class:`SplitAttentionSpec`."""

    heads: int | None
    text: int
    max_distance: int
    head_width: int | None = None
    depth: int = 1

    image: None = None

    def heads_at(self, width: int) -> int:
        return self.heads or width // self.head_width

    def build(self, width: int, ops=nn) -> InterleavedTransformer:
        return InterleavedTransformer(width, self, ops)


class InterleavedBlock(nn.Module):
    """Attention in space, in time, to the text, in time once more, then a feed-forward."""

    def __init__(self, width: int, spec: InterleavedTransformerSpec, ops=nn):
        super().__init__()
        count = spec.heads_at(width)
        heads = dict(heads=count, head_width=width // count, ops=ops)
        self.space_norm = ops.LayerNorm(width)
        self.space = Attention(width, **heads)
        self.first_time_norm = ops.LayerNorm(width)
        self.first_time = Attention(width, max_distance=spec.max_distance, **heads)
        self.text_norm = ops.LayerNorm(width)
        self.text = Attention(width, context=spec.text, **heads)
        self.second_time_norm = ops.LayerNorm(width)
        self.second_time = Attention(width, max_distance=spec.max_distance, **heads)
        self.feed_forward_norm = ops.LayerNorm(width)
        self.feed_forward = GEGLU(width, ops=ops)

    def forward(self, tokens: Tensor, inputs: VideoInputs) -> Tensor:
        frames = inputs.frames
        tokens = self.space.within_frames(self.space_norm, tokens)
        tokens = self.first_time.over_frames(self.first_time_norm, tokens, frames)
        tokens = to_prompt(self.text, self.text_norm, tokens, inputs)
        tokens = self.second_time.over_frames(self.second_time_norm, tokens, frames)
        return plus_feed_forward(self.feed_forward_norm, self.feed_forward, tokens)


class InterleavedTransformer(nn.Module):
    """See :class:`InterleavedTransformerSpec`; its norm is over all frames of a video."""

    def __init__(self, width: int, spec: InterleavedTransformerSpec, ops=nn):
        super().__init__()
        self.norm = FrameGroupNorm(GROUPS, width, eps=1e-6, pooled=True, ops=ops)
        self.project_in = ops.Linear(width, width)
        self.blocks = nn.ModuleList([InterleavedBlock(width, spec, ops) for _ in range(spec.depth)])
        self.project_out = zeroed(ops.Linear(width, width))

    def forward(self, h: Tensor, inputs: VideoInputs) -> Tensor:
        tokens = linear(self.project_in, tokens_of(self.norm(h, inputs.frames)))
        for block in self.blocks:
            tokens = block(tokens, inputs)
        return frames_like(linear(self.project_out, tokens, tokens_of(h)), h)


# --------------------------------------------------------------------------------------------------
# VideoCrafter.


@dataclass(frozen=True, kw_only=True)
class StackedTransformersSpec:
    """A transformer over space, then one over time.

    head_width: channels per head. text, image: widths of the tokens that the first one attends to;
    the image's in addition to the text's. max_distance: of relative positions in time, None = no
    positions. depth, time_depth: number of blocks of each.
    """

    head_width: int
    text: int
    image: int | None = None
    max_distance: int | None = None
    depth: int = 1
    time_depth: int = 1

    def build(self, width: int, ops=nn) -> StackedTransformers:
        return StackedTransformers(width, self, ops)


class TransformerBlock(nn.Module):
    """Two attentions and a feed-forward, each after a norm."""

    def __init__(self, width: int, first: Attention, second: Attention, ops=nn):
        super().__init__()
        self.norm1 = ops.LayerNorm(width)
        self.first = first
        self.norm2 = ops.LayerNorm(width)
        self.second = second
        self.norm3 = ops.LayerNorm(width)
        self.feed_forward = GEGLU(width, ops=ops)


class SpaceTransformer(nn.Module):
    """Self-attention within every frame, attention to text and image, feed-forward."""

    def __init__(self, width: int, spec: StackedTransformersSpec, ops=nn):
        super().__init__()
        heads = dict(heads=width // spec.head_width, head_width=spec.head_width, ops=ops)
        self.norm = FrameGroupNorm(GROUPS, width, eps=1e-6, ops=ops)
        self.project_in = ops.Linear(width, width)
        self.blocks = nn.ModuleList(
            [
                TransformerBlock(
                    width,
                    Attention(width, **heads),
                    Attention(width, context=spec.text, image=spec.image, **heads),
                    ops,
                )
                for _ in range(spec.depth)
            ]
        )
        self.project_out = zeroed(ops.Linear(width, width))

    def forward(self, h: Tensor, inputs: VideoInputs) -> Tensor:
        tokens = linear(self.project_in, tokens_of(self.norm(h, inputs.frames)))
        for block in self.blocks:
            tokens = block.first.within_frames(block.norm1, tokens)
            tokens = to_prompt(block.second, block.norm2, tokens, inputs)
            tokens = plus_feed_forward(block.norm3, block.feed_forward, tokens)
        return frames_like(linear(self.project_out, tokens, tokens_of(h)), h)


class TimeTransformer(nn.Module):
    """`depth` blocks of two self-attentions over the frames at each position and a feed-forward,
    with `heads` heads of the spec's width; its norm is over all frames of a video."""

    def __init__(self, width: int, heads: int, spec: StackedTransformersSpec, depth: int, ops=nn):
        super().__init__()
        inner = heads * spec.head_width
        attention = dict(
            heads=heads, head_width=spec.head_width, max_distance=spec.max_distance, ops=ops
        )
        self.norm = FrameGroupNorm(GROUPS, width, eps=1e-6, pooled=True, ops=ops)
        self.project_in = ops.Linear(width, inner)
        self.blocks = nn.ModuleList(
            [
                TransformerBlock(
                    inner, Attention(inner, **attention), Attention(inner, **attention), ops
                )
                for _ in range(depth)
            ]
        )
        self.project_out = zeroed(ops.Linear(inner, width))

    def forward(self, h: Tensor, inputs: VideoInputs) -> Tensor:
        tokens = linear(self.project_in, tokens_of(self.norm(h, inputs.frames)))
        for block in self.blocks:
            tokens = block.first.over_frames(block.norm1, tokens, inputs.frames)
            tokens = block.second.over_frames(block.norm2, tokens, inputs.frames)
            tokens = plus_feed_forward(block.norm3, block.feed_forward, tokens)
        return frames_like(linear(self.project_out, tokens, tokens_of(h)), h)


class StackedTransformers(nn.Module):
    """See :class:`StackedTransformersSpec`."""

    def __init__(self, width: int, spec: StackedTransformersSpec, ops=nn):
        super().__init__()
        self.space = SpaceTransformer(width, spec, ops)
        heads = width // spec.head_width
        self.time = TimeTransformer(width, heads, spec, spec.time_depth, ops)

    def forward(self, h: Tensor, inputs: VideoInputs) -> Tensor:
        return self.time(self.space(h, inputs), inputs)


AttentionSpec = SplitAttentionSpec | InterleavedTransformerSpec | StackedTransformersSpec
