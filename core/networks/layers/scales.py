"""Factors of the projected keys and queries of temporal attention.

Larger keys or queries sharpen the attention, of all frames or of some; values are not scaled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from einops import rearrange
from torch import Tensor

from ...diffusion.curves import Amount


class Scales(NamedTuple):
    """Numbers, or tensors [(b t), 1 or n, 1] for n positions of every frame."""

    keys: Amount = 1.0
    queries: Amount = 1.0

    @property
    def differ(self) -> bool:
        """Whether they vary between frames or positions."""
        return isinstance(self.keys, Tensor) or isinstance(self.queries, Tensor)

    def of_frames(self, window: Sequence[int], frames: int) -> Scales:
        """The scales of some of the `frames` frames of every video."""

        def one(scale: Amount) -> Amount:
            if not isinstance(scale, Tensor):
                return scale
            video = rearrange(scale, "(b t) n one -> b t n one", t=frames)
            return rearrange(video[:, list(window)], "b t n one -> (b t) n one")

        return Scales(one(self.keys), one(self.queries))

    def arranged(self, order: str, frames: int, positions: int) -> Scales:
        """Tensors in an einops order of b, t and n, such as "(b n) t", with a last axis of 1."""

        def one(scale: Amount) -> Amount:
            if not isinstance(scale, Tensor):
                return scale
            every = scale.expand(-1, positions, -1)
            return rearrange(every, f"(b t) n one -> {order} one", t=frames)

        return Scales(one(self.keys), one(self.queries))


PLAIN = Scales()


def scaled(projected: Tensor, scale: Amount) -> Tensor:
    """Keys or queries times their scale; a scale of exactly 1 returns them."""
    if not isinstance(scale, Tensor):
        return projected if scale == 1.0 else projected * scale
    return projected * scale.to(projected)
