"""Positional encodings of temporal attention: sinusoidal, rotary, relative."""

from __future__ import annotations

from typing import Literal

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

Positions = Literal["none", "sinusoidal", "rotary", "relative"]
POSITIONS: tuple[Positions, ...] = ("none", "sinusoidal", "rotary", "relative")


def sinusoid(positions: Tensor, width: int, *, base: float = 10000.0) -> Tensor:
    """Embed real ``positions`` [...] as [..., width]: all cosines, then all sines."""
    half = width // 2
    frequencies = base ** (-torch.arange(half, device=positions.device) / half)
    angles = positions[..., None].float() * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def interleaved_sinusoid(positions: Tensor, width: int, *, base: float = 10000.0) -> Tensor:
    """Embed real ``positions`` [...] as [..., width]: sine and cosine alternate (Vaswani
    et al. 2017, section 3.5)."""
    frequencies = base ** (-torch.arange(0, width, 2, device=positions.device).float() / width)
    angles = positions[..., None].float() * frequencies
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)


def with_times(tokens: Tensor, times: Tensor) -> Tensor:
    """Add sinusoids of ``times`` [t] to ``tokens`` [n, t s, d], with s tokens per frame."""
    at = sinusoid(times, tokens.shape[-1]).to(tokens.dtype)
    return tokens + repeat(at, "t d -> (t s) d", s=tokens.shape[1] // len(times))


def rotary_angles(positions: Tensor, width: int, *, base: float = 10000.0) -> Tensor:
    """Angles [t, width / 2] of the channel pairs at ``positions`` [t] (Su et al. 2021, eq. 15)."""
    frequencies = base ** (-torch.arange(0, width, 2, device=positions.device).float() / width)
    return positions.float()[:, None] * frequencies


def grid_angles(height: int, width: int, pairs: int, device: torch.device) -> Tensor:
    """Rotary angles [h w, 2 pairs] of the positions of an image: half of the channel pairs rotate
    with the row, half with the column."""
    rows = rotary_angles(torch.arange(height, device=device), 2 * pairs, base=100.0)
    columns = rotary_angles(torch.arange(width, device=device), 2 * pairs, base=100.0)
    return torch.cat(
        [repeat(rows, "h r -> (h w) r", w=width), repeat(columns, "w r -> (h w) r", h=height)], -1
    )


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Rotate adjacent channel pairs of ``x`` [..., t, d] by ``angles`` [t, r / 2]; channels from r
    on are not changed.

    (even, odd) becomes (even cos - odd sin, odd cos + even sin).
    """
    turned, passed = x[..., : 2 * angles.shape[-1]], x[..., 2 * angles.shape[-1] :]
    even, odd = rearrange(turned.float(), "... (r two) -> two ... r", two=2)
    cos, sin = angles.cos(), angles.sin()
    pairs = torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1)
    return torch.cat([rearrange(pairs, "... r two -> ... (r two)").to(x.dtype), passed], dim=-1)


class RelativeBias(nn.Module):
    """A learned bias per head for every distance between frames, clipped at ``max_distance``."""

    def __init__(self, heads: int, max_distance: int, ops=nn):
        super().__init__()
        self.max_distance = max_distance
        self.table = ops.Embedding(2 * max_distance + 1, heads)

    def forward(self, frames: int, device: torch.device | str | None = None) -> Tensor:
        """The bias [k, t query, t key]; its table row is clip(key - query) + max_distance.

        ``device``: where it is used, if the weights may be stored elsewhere in between.
        """
        at = torch.arange(frames, device=device or self.table.weight.device)
        distance = (at[None, :] - at[:, None]).clamp(-self.max_distance, self.max_distance)
        return rearrange(self.table(distance + self.max_distance), "q t k -> k q t")


def rotary_width(head_width: int) -> int:
    """How many channels of a head are rotated: at most 32, an even number."""
    return min(32, head_width - head_width % 2)
