"""Temporal layers of Stable Video Diffusion (Blattmann et al. 2023) and of ModelScope's
text-to-video model (Wang et al. 2023), except the convolutions in :mod:`.residual`.

Both attend over the frames at each position. Untrained, each layer is the identity.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ...diffusion.curves import Amount
from ..layer_calls import few_at_a_time, plus_feed_forward
from .group_norms import FrameGroupNorm
from .positions import sinusoid
from .residual import Blend, over_time, zeroed
from .scales import PLAIN, Scales, scaled
from .specs import NO_INPUTS, BlockPlace, LayerInputs, LayerSpec, check_block_place, module_kind
from .transformer import GEGLU, check_heads

EPS = 1e-6
"""Of the group norms before transformers."""


# --------------------------------------------------------------------------------------------------
# Parts of the transformers.


class FrameAttention(nn.Module):
    """Attention of tokens [r, n, c] to themselves, or to others [r, m, e], without a mask."""

    def __init__(self, width: int, heads: int, read: int | None = None, ops=nn):
        super().__init__()
        check_heads(width, heads)
        self.heads = heads
        self.to_q = ops.Linear(width, width, bias=False)
        self.to_k = ops.Linear(read or width, width, bias=False)
        self.to_v = ops.Linear(read or width, width, bias=False)
        self.to_out = zeroed(ops.Linear(width, width))

    def forward(
        self, tokens: Tensor, others: Tensor | None = None, scales: Scales = PLAIN
    ) -> Tensor:
        """[r, n, c], the shape of ``tokens``; scales [r, n, 1]."""
        read = tokens if others is None else others
        q, k = scaled(self.to_q(tokens), scales.queries), scaled(self.to_k(read), scales.keys)
        q, k, v = (
            rearrange(projected, "r n (k d) -> r k n d", k=self.heads)
            for projected in (q, k, self.to_v(read))
        )
        out = F.scaled_dot_product_attention(q, k, v)
        return self.to_out(rearrange(out, "r k n d -> r n (k d)"))


@dataclass(frozen=True, kw_only=True)
class FrameBlockConfig:
    """text: width of the prompt's tokens, which the second attention reads; None = it attends to
    the frames like the first. second: whether there is one. widens_first: one more feed-forward at
    the start. expansion: of the feed-forwards."""

    heads: int
    text: int | None = None
    second: bool = True
    widens_first: bool = False
    expansion: int = 4


class FrameBlock(nn.Module):
    """One or two attentions and a feed-forward over the frames at each position, each with its
    residual, see :class:`FrameBlockConfig`."""

    def __init__(self, width: int, config: FrameBlockConfig, ops=nn):
        super().__init__()
        heads, expansion, widens_first = config.heads, config.expansion, config.widens_first
        self.text = config.text
        self.norm_in = ops.LayerNorm(width) if widens_first else None
        self.feed_forward_in = _feed_forward(width, expansion, ops) if widens_first else None
        self.norm1 = ops.LayerNorm(width)
        self.attention = FrameAttention(width, heads, ops=ops)
        self.norm2 = ops.LayerNorm(width) if config.second else None
        second = FrameAttention(width, heads, config.text, ops=ops) if config.second else None
        self.second_attention = second
        self.norm3 = ops.LayerNorm(width)
        self.feed_forward = _feed_forward(width, expansion, ops)

    def forward(self, tokens: Tensor, text: Tensor | None, scales: Scales = PLAIN) -> Tensor:
        """``tokens`` [(b n), t, c] of the frames at each position, ``text`` [b, m, e]; scales
        [(b n), t, 1] for attention to frames."""
        if self.feed_forward_in is not None:
            tokens = tokens + self.feed_forward_in(self.norm_in(tokens))
        tokens = tokens + self.attention(self.norm1(tokens), scales=scales)
        if self.second_attention is not None:
            tokens = tokens + self._second(self.norm2(tokens), text, scales)
        return plus_feed_forward(self.norm3, self.feed_forward, tokens)

    def _second(self, tokens: Tensor, text: Tensor | None, scales: Scales) -> Tensor:
        if self.text is None:
            return self.second_attention(tokens, scales=scales)
        if text is None:
            raise ValueError("the temporal layers attend to the prompt, but none was given")
        videos, frames = len(text), tokens.shape[1]
        together = rearrange(tokens, "(b n) t c -> b (n t) c", b=videos)
        out = self.second_attention(together, text)
        return rearrange(out, "b (n t) c -> (b n) t c", t=frames)


def _feed_forward(width: int, expansion: int, ops) -> GEGLU:
    made = GEGLU(width, expansion=expansion, ops=ops)
    zeroed(made.outer)
    return made


# --------------------------------------------------------------------------------------------------
# Stable Video Diffusion.


@module_kind("video block")
@dataclass(frozen=True, kw_only=True)
class VideoBlockSpec(LayerSpec):
    """A temporal transformer block after one of the image network's, inside its transformer.

    text: width of the prompt's tokens, None = it attends to the frames only. second, widens_first:
    see :class:`FrameBlockConfig`. fixed_blend, spares_images: see :class:`.residual.Blend`.
    """

    heads: int
    text: int | None = None
    second: bool = True
    widens_first: bool = True
    expansion: int = 4
    fixed_blend: bool = False
    spares_images: bool = False
    block_place: BlockPlace = "after_feed_forward"

    def __post_init__(self) -> None:
        check_block_place(self.block_place)
        if self.text is not None and not self.second:
            raise ValueError(f"a prompt of width {self.text} needs a second attention to read it")

    @property
    def place(self) -> BlockPlace:
        return self.block_place

    @property
    def reads_image_only(self) -> bool:
        return self.spares_images

    @property
    def scales_attention(self) -> bool:
        return True

    def build(self, width: int, ops=nn) -> VideoBlock:
        return VideoBlock(width, self, ops)


class VideoBlock(nn.Module):
    """See :class:`VideoBlockSpec`."""

    def __init__(self, width: int, spec: VideoBlockSpec, ops=nn):
        super().__init__()
        self.width = width
        self.embed_times = nn.Sequential(
            ops.Linear(width, 4 * width), nn.SiLU(), zeroed(ops.Linear(4 * width, width))
        )
        config = FrameBlockConfig(
            heads=spec.heads,
            text=spec.text,
            second=spec.second,
            widens_first=spec.widens_first,
            expansion=spec.expansion,
        )
        self.block = FrameBlock(width, config, ops)
        self.blend = Blend(fixed=spec.fixed_blend, spares_images=spec.spares_images)

    def forward(
        self, tokens: Tensor, frames: int, inputs: LayerInputs = NO_INPUTS, strength: Amount = 1.0
    ) -> Tensor:
        """``tokens`` [(b t), n, c]. Only the temporal branch sees the frames' times."""
        times = torch.arange(frames, device=tokens.device) if inputs.times is None else inputs.times
        at = self.embed_times(sinusoid(times, self.width).to(tokens))

        def blended(part: Tensor) -> Tensor:
            count = part.shape[1]
            z = rearrange(part, "(b t) n c -> (b n) t c", t=frames)
            z = self.block(z + at, inputs.text, inputs.scales.arranged("(b n) t", frames, count))
            z = rearrange(z, "(b n) t c -> (b t) n c", n=count)
            return self.blend(part, z - part, strength, inputs.image_only)

        if isinstance(strength, Tensor) or inputs.scales.differ:
            return blended(tokens)
        return few_at_a_time(blended, tokens, 1, self)


# --------------------------------------------------------------------------------------------------
# ModelScope.


@module_kind("convolution stack")
@dataclass(frozen=True, kw_only=True)
class ConvolutionStackSpec(LayerSpec):
    """Temporal convolutions in sequence, with one residual around all of them.

    Norms pool statistics over all frames. The noise level is not read.
    """

    layers: int = 4
    kernel: int = 3
    norm_groups: int = 32
    eps: float = 1e-5

    def build(self, width: int, ops=nn) -> ConvolutionStack:
        return ConvolutionStack(width, self, ops)


class ConvolutionStack(nn.Module):
    """See :class:`ConvolutionStackSpec`."""

    def __init__(self, width: int, spec: ConvolutionStackSpec, ops=nn):
        super().__init__()
        size = dict(kernel_size=(spec.kernel, 1, 1), padding=(spec.kernel // 2, 0, 0))
        norm = dict(eps=spec.eps, pooled=True, ops=ops)
        self.norms = nn.ModuleList(
            [FrameGroupNorm(spec.norm_groups, width, **norm) for _ in range(spec.layers)]
        )
        self.convolutions = nn.ModuleList(
            [ops.Conv3d(width, width, **size) for _ in range(spec.layers)]
        )
        zeroed(self.convolutions[-1])
        self.blend = Blend(learned=False)

    def forward(
        self, h: Tensor, frames: int, inputs: LayerInputs = NO_INPUTS, strength: Amount = 1.0
    ) -> Tensor:
        """``h`` [(b t), c, h, w]; the inputs are not read."""
        z = h
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            z = over_time(convolution, F.silu(norm(z, frames)), frames)
        return self.blend(h, z, strength)


@module_kind("frame transformer")
@dataclass(frozen=True, kw_only=True)
class FrameTransformerSpec(LayerSpec):
    """A transformer that attends to the frames at each position twice, without positional encoding,
    after a norm over all frames.

    head_width: channels per head; all heads together may be wider than h. blocks: how many.
    """

    heads: int
    head_width: int = 64
    blocks: int = 1
    expansion: int = 4
    norm_groups: int = 32

    @property
    def scales_attention(self) -> bool:
        return True

    def build(self, width: int, ops=nn) -> FrameTransformer:
        return FrameTransformer(width, self, ops)


class FrameTransformer(nn.Module):
    """See :class:`FrameTransformerSpec`."""

    def __init__(self, width: int, spec: FrameTransformerSpec, ops=nn):
        super().__init__()
        inner = spec.heads * spec.head_width
        self.norm = FrameGroupNorm(spec.norm_groups, width, eps=EPS, pooled=True, ops=ops)
        self.project_in = ops.Linear(width, inner)
        block = FrameBlockConfig(heads=spec.heads, expansion=spec.expansion)
        self.blocks = nn.ModuleList([FrameBlock(inner, block, ops) for _ in range(spec.blocks)])
        self.project_out = zeroed(ops.Linear(inner, width))
        self.blend = Blend(learned=False)

    def forward(
        self, h: Tensor, frames: int, inputs: LayerInputs = NO_INPUTS, strength: Amount = 1.0
    ) -> Tensor:
        """``h`` [(b t), c, h, w]; of the inputs, only scales are read."""
        height, width = h.shape[-2:]
        z = rearrange(self.norm(h, frames), "(b t) c h w -> (b h w) t c", t=frames)
        tokens = self.project_in(z)
        scales = inputs.scales.arranged("(b n) t", frames, height * width)

        def through_blocks(part: Tensor) -> Tensor:
            for block in self.blocks:
                part = block(part, None, scales)
            return part

        if scales.differ:
            tokens = through_blocks(tokens)
        else:
            tokens = few_at_a_time(through_blocks, tokens, 0, self.blocks, inplace=True)
        z = rearrange(self.project_out(tokens), "(b h w) t c -> (b t) c h w", h=height, w=width)
        return self.blend(h, z, strength)
