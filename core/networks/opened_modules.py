"""The image U-Net's modules, opened up for layers that act inside of them.

Group norms may pool statistics over all frames, self-attention may read other frames, and layers
act inside transformer blocks. What the frames of a video share, such as keys and values of the
prompt, is computed once per video. Everything is in channels-last memory, where images and tokens,
and frames and videos, are views of each other; not where gradients are needed, because torch 2.13
crashes in the backward pass of such a group norm if its weight is frozen.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import ControlNetModel, UNet2DConditionModel
from einops import rearrange
from torch import Tensor, nn

from .image_modules import residual_block
from .injected_sets import LayerPass
from .layer_calls import activation, convolution, few_at_a_time, linear, plus_feed_forward
from .layers.group_norms import group_norm
from .layers.residual import per_frame


class OpenedModules:
    """The modules on frames [(b t), c, h, w] of known videos."""

    def __init__(
        self,
        unet: UNet2DConditionModel | ControlNetModel,
        embedding: Tensor,
        text: Tensor | None,
        layers: LayerPass,
    ):
        self.unet, self.layers, self.frames = unet, layers, layers.frames
        self.pooled, self.sparse_causal = layers.sets.pooled_norms, layers.sets.sparse_causal
        grad = torch.is_grad_enabled()
        self.layout = torch.contiguous_format if grad else torch.channels_last
        self.activated = F.silu(embedding)  # [b, e] or [b, t, e]
        # A prompt per video has the same keys and values for all of its frames.
        per_frame_text = text is not None and text.ndim == 4
        self.text = text.flatten(0, 1) if per_frame_text else text

    def enter(self, h: Tensor) -> Tensor:
        return h.contiguous(memory_format=self.layout)

    def head(self, h: Tensor) -> Tensor:
        unet = self.unet
        if unet.conv_norm_out is not None:
            h = activation(unet.conv_act, group_norm(unet.conv_norm_out, h, self.pooled_frames))
        return unet.conv_out(h).contiguous()

    # ----------------------------------------------------------------------------------------------
    # Residual blocks and samplers.

    @property
    def pooled_frames(self) -> int:
        """Number of frames over which group norms pool statistics."""
        return self.frames if self.pooled else 1

    def res(self, block: nn.Module, h: Tensor, *, inplace: bool = False) -> Tensor:
        embedded = per_frame(block.time_emb_proj(self.activated), self.frames)
        return residual_block(block, h, self.pooled_frames, embedded, inplace=inplace)

    def downsample(self, sampler: nn.Module, h: Tensor) -> Tensor:
        return convolution(sampler.conv, h) if sampler.padding == 1 else sampler(h)

    def upsample(self, sampler: nn.Module, h: Tensor, size: torch.Size | None) -> Tensor:
        size = [2 * side for side in h.shape[-2:]] if size is None else size
        return convolution(sampler.conv, F.interpolate(h, size=size, mode="nearest"))

    # ----------------------------------------------------------------------------------------------
    # Transformers.

    def attn(self, site: str, transformer: nn.Module, h: Tensor) -> Tensor:
        height = h.shape[-2]
        z = group_norm(transformer.norm, h)
        if transformer.use_linear_projection:
            tokens = linear(transformer.proj_in, rearrange(z, "n c h w -> n (h w) c"))
        else:
            tokens = rearrange(convolution(transformer.proj_in, z), "n c h w -> n (h w) c")
        for k, block in enumerate(transformer.transformer_blocks):
            tokens = self.block(f"{site}.block.{k}", block, tokens)
        if transformer.use_linear_projection:
            plus = rearrange(h, "n c h w -> n (h w) c")
            tokens = linear(transformer.proj_out, tokens, plus)
            return self.enter(rearrange(tokens, "n (h w) c -> n c h w", h=height))
        z = self.enter(rearrange(tokens, "n (h w) c -> n c h w", h=height))
        return convolution(transformer.proj_out, z, plus=h)

    def block(self, site: str, block: nn.Module, tokens: Tensor) -> Tensor:
        """One transformer block on tokens [(b t), n, c]."""
        if block.only_cross_attention:
            tokens = self.cross_attention(block.attn1, block.norm1, tokens)
        else:
            tokens = self.self_attention(site, block, tokens)
        if block.attn2 is not None:
            tokens = self.cross_attention(block.attn2, block.norm2, tokens)
        tokens = self.layers(site, tokens, "before_feed_forward")
        tokens = plus_feed_forward(block.norm3, block.ff, tokens)
        return self.layers(site, tokens, "after_feed_forward")

    def self_attention(self, site: str, block: nn.Module, tokens: Tensor) -> Tensor:
        """tokens plus their self-attention, within each frame or to other frames."""
        attention, norm = block.attn1, block.norm1
        if self.sparse_causal or self.layers.conditions.reference is not None:
            return self.extended_self_attention(site, attention, norm(tokens), tokens)
        return few_at_a_time(
            lambda part: attend(attention, *projected(attention, norm(part)), part),
            tokens, 0, norm, attention, inplace=True,
        )  # fmt: skip

    def extended_self_attention(
        self, site: str, attention: nn.Module, normed: Tensor, plus: Tensor
    ) -> Tensor:
        """Self-attention to the frames that `sparse_causal` selects, and to tokens of a reference
        window; plus ``plus``."""
        q, k, v = projected(attention, normed)
        if self.sparse_causal:
            k, v = first_and_previous(k, self.frames), first_and_previous(v, self.frames)
        reference = self.layers.conditions.reference
        more = None if reference is None else reference.extra_tokens(site, normed, self.frames)
        if more is not None:
            k = torch.cat([k, linear(attention.to_k, more)], dim=1)
            v = torch.cat([v, linear(attention.to_v, more)], dim=1)
        return attend(attention, q, k, v, plus)

    def cross_attention(self, attention: nn.Module, norm: nn.Module, tokens: Tensor) -> Tensor:
        """tokens plus their cross-attention to the text, given per video [b, m, e] or per frame
        [(b t), m, e]."""
        if self.text is None:
            raise ValueError("the network attends to text, but none was given")
        k, v = linear(attention.to_k, self.text), linear(attention.to_v, self.text)
        rows = few_at_a_time(
            lambda part: attend(attention, linear(attention.to_q, norm(part)), k, v, part),
            tokens.reshape(len(self.text), -1, tokens.shape[-1]),
            1, norm, attention, inplace=True,
        )  # fmt: skip
        return rows.reshape(tokens.shape)


def projected(attention: nn.Module, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of self-attention."""
    return tuple(linear(to, tokens) for to in (attention.to_q, attention.to_k, attention.to_v))


def attend(attention: nn.Module, q: Tensor, k: Tensor, v: Tensor, plus: Tensor) -> Tensor:
    """Attention of projected queries [r, n, c] to keys and values [r, m, c], projected out, plus
    ``plus`` [r, n, c]."""
    q, k, v = (rearrange(x, "r n (k d) -> r k n d", k=attention.heads) for x in (q, k, v))
    out = F.scaled_dot_product_attention(q, k, v)
    out, (project, dropout) = rearrange(out, "r k n d -> r n (k d)"), attention.to_out
    if dropout.training and dropout.p:
        return plus + dropout(project(out))
    return linear(project, out, plus)


def first_and_previous(tokens: Tensor, frames: int) -> Tensor:
    """For every frame the tokens of the video's first frame, then those of the previous frame; the
    first frame gets itself twice. [(b t), n, c] -> [(b t), 2n, c]."""
    video = rearrange(tokens, "(b t) n c -> b t n c", t=frames)
    previous = torch.cat([video[:, :1], video[:, :-1]], dim=1)
    both = torch.cat([video[:, :1].expand_as(video), previous], dim=2)
    return rearrange(both, "b t n c -> (b t) n c")
