"""Windows inside temporal attention: all frames pass through the network together, but attention
sees one window at a time and its outputs are averaged (as in FreeNoise, Qiu et al. 2023)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor


@dataclass(frozen=True)
class Views:
    """Windows of frames, with the weight of every frame in each of them."""

    windows: tuple[tuple[int, ...], ...]
    weights: tuple[tuple[float, ...], ...]

    @property
    def longest(self) -> int:
        """Length of the longest window, in frames."""
        return max(map(len, self.windows))

    def fused(
        self, attend: Callable[[Tensor, Sequence[int]], Tensor], tokens: Tensor, frames: int
    ) -> Tensor:
        """The weighted mean over the windows of attend(tokens of the window, its frames).

        tokens [(b t), n, c] of `frames` frames -> the same shape.
        """
        video = rearrange(tokens, "(b t) n c -> b t n c", t=frames)
        total, weight = torch.zeros_like(video), video.new_zeros(frames)
        for window, given in zip(self.windows, self.weights, strict=True):
            at = torch.tensor(window, device=tokens.device)
            own = torch.tensor(given, device=tokens.device, dtype=tokens.dtype)
            part = rearrange(video[:, at], "b t n c -> (b t) n c")
            answer = rearrange(attend(part, window), "(b t) n c -> b t n c", t=len(window))
            total.index_add_(1, at, answer * own[:, None, None])
            weight.index_add_(0, at, own)
        return rearrange(total / weight[:, None, None], "b t n c -> (b t) n c")
