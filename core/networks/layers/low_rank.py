"""Linear maps with low-rank updates beside them (LoRA, Hu et al. 2021). These are not merged: each
keeps its own strength, and the base weights stay those of the file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from torch import Tensor, nn

from ..layer_calls import linear


class Update(NamedTuple):
    """A low-rank update of one linear map, declared.

    projection: its path in the layer, such as "blocks.0.attentions.1.to_q". strength: factor of up
    down, including alpha / rank.
    """

    projection: str
    rank: int
    strength: float


class Projection(nn.Module):
    """W x + sum_i s_i up_i down_i x; ``path`` selects its own among a layer's ``updates``."""

    def __init__(
        self, width: int, width_out: int, path: str, updates: Iterable[Update], *,
        bias: bool = True, ops=nn,
    ):  # fmt: skip
        super().__init__()
        own = [update for update in updates if update.projection == path]
        self.base = ops.Linear(width, width_out, bias=bias)
        self.updates = nn.ModuleList([_LowRank(width, width_out, one.rank, ops) for one in own])
        self.strengths = tuple(one.strength for one in own)

    def forward(self, x: Tensor, plus: Tensor | None = None) -> Tensor:
        """The projection of x, plus ``plus`` of the output's shape."""
        out = linear(self.base, x, plus)
        for update, strength in zip(self.updates, self.strengths, strict=True):
            if strength:
                out = out + strength * update(x)
        return out


class _LowRank(nn.Module):
    def __init__(self, width: int, width_out: int, rank: int, ops=nn):
        super().__init__()
        self.down = ops.Linear(width, rank, bias=False)
        self.up = ops.Linear(rank, width_out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.down(x))
