"""Attention with learned relative positions between frames, for keys and for values, as in LVDM and
VideoCrafter (Shaw et al. 2018, eq. 3 and 4):

    z_i = sum_j a_ij (v_j + V_ij),    a_i = softmax_j(q_i . (k_j + K_ij) / sqrt(d))

with d channels per head, where K_ij and V_ij depend only on the clipped distance j - i.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..layer_calls import few_at_a_time, linear
from .transformer import check_heads


class Order(NamedTuple):
    """einops patterns of projected tokens, and of their heads."""

    tokens: str
    heads: str


ROWS = Order("r n (k d)", "r k n d")
OVER_FRAMES = Order("(b t) s (k d)", "(b s) k t d")


class RelativeVectors(nn.Module):
    """A learned vector for every distance between frames, clipped at ``max_distance``."""

    def __init__(self, max_distance: int, width: int, ops=nn):
        super().__init__()
        self.max_distance = max_distance
        self.table = ops.Embedding(2 * max_distance + 1, width)

    def forward(self, frames: int, device: torch.device) -> Tensor:
        """[t query, t key, d]; the table row is clip(key - query) + max_distance."""
        at = torch.arange(frames, device=device)
        distance = (at[None, :] - at[:, None]).clamp(-self.max_distance, self.max_distance)
        return self.table(distance + self.max_distance)


class RelativePositions(nn.Module):
    """The vectors for keys and for values, shared by all heads."""

    def __init__(self, max_distance: int, head_width: int, ops=nn):
        super().__init__()
        self.keys = RelativeVectors(max_distance, head_width, ops)
        self.values = RelativeVectors(max_distance, head_width, ops)

    def logits(self, q: Tensor, scale: float) -> Tensor:
        """scale q_i . K_ij for queries [n t d]: [n, t query, t key]."""
        keys = self.keys(q.shape[-2], q.device).to(q)
        return torch.einsum("nid,ijd->nij", q, scale * keys)

    def values_of(self, weights: Tensor) -> Tensor:
        """sum_j a_ij V_ij for weights [n t t]: [n t d]."""
        values = self.values(weights.shape[-1], weights.device).to(weights)
        return torch.einsum("nij,ijd->nid", weights, values)

    def attend(self, logits: Tensor, v: Tensor) -> Tensor:
        """sum_j a_ij (v_j + V_ij) for values [n t d], where a is the softmax of logits [n t t]."""
        weights = softmax(logits)
        return torch.baddbmm(self.values_of(weights), weights, v)


class Attention(nn.Module):
    """Attention of tokens to themselves, or to a context of another width.

    heads: of ``head_width`` channels, which need not add up to the width of the tokens.
    max_distance: of relative positions between tokens, which are then the frames; None = none.
    image: width of image tokens to attend to in addition, with keys and values of their own.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        head_width: int,
        context: int | None = None,
        max_distance: int | None = None,
        image: int | None = None,
        ops=nn,
    ):
        super().__init__()
        inner, source = heads * head_width, context or width
        self.heads = heads
        self.to_q = ops.Linear(width, inner, bias=False)
        self.to_k = ops.Linear(source, inner, bias=False)
        self.to_v = ops.Linear(source, inner, bias=False)
        self.to_out = ops.Linear(inner, width)
        self.positions = (
            None if max_distance is None else RelativePositions(max_distance, head_width, ops)
        )
        self.image_to_k = ops.Linear(image, inner, bias=False) if image else None
        self.image_to_v = ops.Linear(image, inner, bias=False) if image else None

    def within_frames(self, norm: nn.Module, tokens: Tensor) -> Tensor:
        """tokens [(b t) s c], which are overwritten, plus self-attention of the normalised tokens
        within each frame."""

        def attended(part: Tensor) -> Tensor:
            q, k, v = self._projected(norm(part))
            return linear(self.to_out, self._attend(q, k, v, ROWS), part)

        return few_at_a_time(attended, tokens, 0, norm, self, inplace=True)

    def over_frames(self, norm: nn.Module, tokens: Tensor, frames: int) -> Tensor:
        """The same with attention over the frames at each position."""

        def attended(part: Tensor) -> Tensor:
            q, k, v = self._projected(norm(part))
            out = self._attend(q, k, v, OVER_FRAMES, t=frames, s=part.shape[1])
            return linear(self.to_out, out, part)

        return few_at_a_time(attended, tokens, 1, norm, self, inplace=True)

    def to_context(
        self, norm: nn.Module, tokens: Tensor, context: Tensor, image: Tensor | None = None
    ) -> Tensor:
        """The same for tokens [r n c] with attention to a context [r m e] and, with keys and values
        of its own, to an image [r l i]."""
        read = [(linear(self.to_k, context), linear(self.to_v, context))]
        if self.image_to_k is not None and image is not None:
            read.append((linear(self.image_to_k, image), linear(self.image_to_v, image)))

        def attended(part: Tensor) -> Tensor:
            q = linear(self.to_q, norm(part))
            first, *more = (self._attend(q, k, v, ROWS) for k, v in read)
            return linear(self.to_out, sum(more, first), part)

        return few_at_a_time(attended, tokens, 1, norm, self, inplace=True)

    def _projected(self, tokens: Tensor) -> tuple[Tensor, ...]:
        return tuple(linear(to, tokens) for to in (self.to_q, self.to_k, self.to_v))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, order: Order, **sizes: int) -> Tensor:
        """Attention on projected tokens in that order, which the output has as well."""
        split = f"{order.tokens} -> {order.heads}"
        q, k, v = (rearrange(x, split, k=self.heads, **sizes) for x in (q, k, v))
        if self.positions is None:
            out = F.scaled_dot_product_attention(q, k, v)
        else:
            # The matrix products below would otherwise copy each of them more than once.
            q, k, v = (x.contiguous().flatten(0, 1) for x in (q, k, v))
            scale = q.shape[-1] ** -0.5
            logits = torch.baddbmm(self.positions.logits(q, scale), q, k.mT, alpha=scale)
            out = self.positions.attend(logits, v).unflatten(0, (-1, self.heads))
        return rearrange(out, f"{order.heads} -> {order.tokens}", **sizes)


def softmax(logits: Tensor) -> Tensor:
    """Over the last axis, computed in float32."""
    return logits.float().softmax(dim=-1).to(logits.dtype)


class TransposedRelativeAttention(nn.Module):
    """Attention over the frames at one position, tokens [n t c], of LVDM's unconditional models.

    Its logit of query i and key j contains q_j . K_ji instead of q_i . K_ij: the published weights
    were trained with the two axes exchanged. That term is divided by the fourth root of the head's
    width, not by the square root as the product of queries and keys is.
    """

    def __init__(self, width: int, heads: int, max_distance: int, ops=nn):
        super().__init__()
        check_heads(width, heads)
        self.heads = heads
        self.to_qkv = ops.Linear(width, 3 * width)
        self.to_out = ops.Linear(width, width)
        self.positions = RelativePositions(max_distance, width // heads, ops)

    def forward(self, tokens: Tensor) -> Tensor:
        q, k, v = heads_of(linear(self.to_qkv, tokens), self.heads).flatten(1, 2)
        scale = q.shape[-1] ** -0.25
        of_distance = self.positions.logits(q, scale).mT
        logits = torch.baddbmm(of_distance, q, k.mT, alpha=scale**2)
        out = self.positions.attend(logits, v)
        return linear(self.to_out, rearrange(out, "(n k) t d -> n t (k d)", k=self.heads))


class PlainAttention(nn.Module):
    """Self-attention of tokens [r n c] whose projections have biases."""

    def __init__(self, width: int, heads: int, ops=nn):
        super().__init__()
        check_heads(width, heads)
        self.heads = heads
        self.to_qkv = ops.Linear(width, 3 * width)
        self.to_out = ops.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        out = F.scaled_dot_product_attention(*heads_of(linear(self.to_qkv, tokens), self.heads))
        return linear(self.to_out, rearrange(out, "n k t d -> n t (k d)"))


def heads_of(qkv: Tensor, heads: int) -> Tensor:
    """Split fused queries, keys and values [n t 3c] into [3 n k t c/k]."""
    return rearrange(qkv, "n t (three k d) -> three n k t d", three=3, k=heads)
