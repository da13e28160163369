"""Resamples the tokens of an image encoder to a few tokens that a U-Net attends to (VideoCrafter's
image-to-video; a Perceiver as in Flamingo, Alayrac et al. 2022, section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class ResamplerConfig:
    """width: inner width. queries: number of output tokens, of width ``out``. embedding: width of
    the image's tokens."""

    width: int = 1024
    depth: int = 4
    heads: int = 12
    head_width: int = 64
    queries: int = 16
    embedding: int = 1280
    out: int = 1024
    expansion: int = 4


class ResamplerLayer(nn.Module):
    """Queries attend to the image and to themselves together, then a feed-forward."""

    def __init__(self, config: ResamplerConfig, ops=nn):
        super().__init__()
        width, inner = config.width, config.heads * config.head_width
        self.heads = config.heads
        self.image_norm = ops.LayerNorm(width)
        self.query_norm = ops.LayerNorm(width)
        self.to_q = ops.Linear(width, inner, bias=False)
        self.to_kv = ops.Linear(width, 2 * inner, bias=False)
        self.to_out = ops.Linear(inner, width, bias=False)
        self.feed_forward_norm = ops.LayerNorm(width)
        self.feed_in = ops.Linear(width, config.expansion * width, bias=False)
        self.feed_out = ops.Linear(config.expansion * width, width, bias=False)

    def forward(self, image: Tensor, queries: Tensor) -> Tensor:
        """``image`` [b m d], ``queries`` [b n d] -> the updated queries."""
        own = self.query_norm(queries)
        seen = torch.cat([self.image_norm(image), own], dim=1)
        q = rearrange(self.to_q(own), "b n (k d) -> b k n d", k=self.heads)
        k, v = rearrange(self.to_kv(seen), "b m (two k d) -> two b k m d", two=2, k=self.heads)
        out = F.scaled_dot_product_attention(q, k, v)
        queries = queries + self.to_out(rearrange(out, "b k n d -> b n (k d)"))
        return queries + self.feed_out(F.gelu(self.feed_in(self.feed_forward_norm(queries))))


class ImageResampler(nn.Module):
    """Tokens of an image encoder [b m e] to tokens for the U-Net [b n d]."""

    def __init__(self, config: ResamplerConfig, ops=nn):
        super().__init__()
        self.config = config
        self.queries = nn.Parameter(torch.zeros(1, config.queries, config.width))
        self.project_in = ops.Linear(config.embedding, config.width)
        self.layers = nn.ModuleList([ResamplerLayer(config, ops) for _ in range(config.depth)])
        self.project_out = ops.Linear(config.width, config.out)
        self.norm_out = ops.LayerNorm(config.out)

    def forward(self, image: Tensor) -> Tensor:
        """``image``: the encoder's tokens after its last block, before the final norm."""
        image = self.project_in(image)
        queries = self.queries.to(image).expand(len(image), -1, -1)
        for layer in self.layers:
            queries = layer(image, queries)
        return self.norm_out(self.project_out(queries))
