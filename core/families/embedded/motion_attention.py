"""Temporal attention along motions that the embedded family's prompt reader extracts from the
prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ...networks.layers.positions import with_times
from ...networks.layers.specs import LayerInputs, module_kind
from ...networks.layers.transformer import TransformerLayer, TransformerSpec

MotionPositions = Literal["none", "sinusoidal"]
MOTION_POSITIONS: tuple[MotionPositions, ...] = ("none", "sinusoidal")

NEAR = 2**20
"""How many numbers fit into a CPU's cache, roughly."""


@module_kind("motion transformer")
@dataclass(frozen=True, kw_only=True)
class MotionTransformerSpec(TransformerSpec):
    """Attention at the same position (half of `heads`) and along `motions` motions, which come in
    `LayerInputs.extension`."""

    motions: int
    positions: MotionPositions = "sinusoidal"

    def build(self, width: int, ops=nn) -> MotionTransformer:
        return MotionTransformer(width, self, ops)


class MotionTransformer(TransformerLayer):
    """See :class:`MotionTransformerSpec`. Without an extension, all motions are zero."""

    layout = "b (t h w) c"

    def __init__(self, width: int, spec: MotionTransformerSpec, ops=nn):
        stay = max(1, spec.heads // 2)
        attention = MotionAttention(width, stay, spec.motions, positions=spec.positions, ops=ops)
        super().__init__(width, spec, attention, ops)

    def attend(
        self, tokens: Tensor, times: Tensor, grid: tuple[int, int], inputs: LayerInputs
    ) -> Tensor:
        motions = inputs.extension
        if motions is None:
            motions = tokens.new_zeros(len(tokens), self.attention.motions, 2)
        return self.attention(tokens, times, grid, motions)


class MotionAttention(nn.Module):
    """Self-attention among the frames of a video, at the same position and along given motions:
    tokens [b, t n, d].

    ``heads`` heads, of total width d / 2, attend to the same position in the other frames. Further
    heads, one per motion and of total width d, each follow a motion: a query in frame t attends to
    frame t' at its own position plus motion (t' - t), with bilinear interpolation. So features of a
    moving object can be gathered from, or carried to, all frames.
    """

    def __init__(
        self, width: int, heads: int, motions: int, *, positions: MotionPositions = "sinusoidal",
        ops=nn,
    ):  # fmt: skip
        super().__init__()
        if positions not in MOTION_POSITIONS:
            raise ValueError(f"attention along motions cannot have {positions} positions")
        if motions < 1 or width % (2 * heads) or width % motions:
            raise ValueError(
                f"attention of width {width} cannot be divided into {heads} heads at the same "
                f"position and {motions} along motions"
            )
        self.heads, self.motions, self.positions = heads, motions, positions
        self.to_qkv = ops.Linear(width, 3 * width // 2, bias=False)
        self.to_followed = ops.Linear(width, 3 * width, bias=False)
        self.to_out = ops.Linear(width + width // 2, width)

    def forward(
        self, tokens: Tensor, times: Tensor, grid: tuple[int, int], motions: Tensor
    ) -> Tensor:
        """``tokens`` [b, t h w, d] at ``times`` [t], ``grid`` = (h, w), ``motions`` [b, m, 2] as
        (x, y) in fractions of the image's sides per frame."""
        if self.positions == "sinusoidal":
            tokens = with_times(tokens, times)
        stay = F.scaled_dot_product_attention(
            *rearrange(
                self.to_qkv(tokens),
                "b (t n) (three k d) -> three b n k t d",
                three=3,
                t=len(times),
                k=self.heads,
            )
        )
        followed = rearrange(
            self.to_followed(tokens).float(),
            "b (t n) (three k d) -> three b k t n d",
            three=3,
            t=len(times),
            k=self.motions,
        )
        moved = self._follow(*followed, times, grid, motions)
        stay = rearrange(stay, "b n k t d -> b (t n) (k d)")
        moved = rearrange(moved, "b k d t n -> b (t n) (k d)").to(stay.dtype)
        return self.to_out(torch.cat([stay, moved], dim=-1))

    @staticmethod
    def _follow(
        q: Tensor, k: Tensor, v: Tensor, times: Tensor, grid: tuple[int, int], motions: Tensor
    ) -> Tensor:
        """Attention of [b, k, t, n, d] along the motions, [b, k, d, t, n]."""
        points = along_motion(motions.float().flatten(0, 1), times, grid)
        heads = [part.flatten(0, 1) for part in (q, k, v)]
        found = [
            _attended(*part, grid)
            for part in zip(*(x.split(_heads_per_call(q)) for x in (*heads, points)), strict=True)
        ]
        return torch.cat(found).unflatten(0, q.shape[:2])


def _heads_per_call(q: Tensor) -> int:
    """How many heads of [b, k, t, n, d] to compute at a time: on a CPU, the keys and values for all
    pairs of frames and positions should fit into the cache; on a GPU all, as calls cost more."""
    sampled = 2 * q.shape[2] * q[0, 0].numel()
    return max(1, NEAR // sampled) if q.device.type == "cpu" else q.shape[0] * q.shape[1]


def _attended(q: Tensor, k: Tensor, v: Tensor, points: Tensor, grid: tuple[int, int]) -> Tensor:
    """Attention of heads [m, t, n, d] to what is at points [m, s, t, n, 2]: [m, d, t, n]."""
    (m, s), (h, w) = k.shape[:2], grid
    kv = rearrange([k, v], "two m s (h w) d -> (m s) (two d) h w", h=h, w=w)
    # Outside the image there are zeros, as for convolutions.
    found = F.grid_sample(kv, points.flatten(0, 1), align_corners=False)
    keys, values = found.unflatten(0, (m, s)).chunk(2, dim=2)
    q = rearrange(q, "m t n d -> m 1 d t n")
    # Every query has its own keys, so plain products are faster than a fused kernel.
    weights = ((q * keys).sum(2, keepdim=True) / q.shape[2] ** 0.5).softmax(dim=1)
    return (weights * values).sum(1)


def along_motion(motion: Tensor, times: Tensor, grid: tuple[int, int]) -> Tensor:
    """Points [b, s, t, n, 2]: the position in frame s of what is at each position of frame t.

    ``motion`` [b, 2]: (x, y) in fractions of the image's sides per frame. Points are in
    ``grid_sample``'s coordinates, -1 .. 1 across the image.
    """
    h, w = grid
    y = (2 * torch.arange(h, device=motion.device) + 1) / h - 1
    x = (2 * torch.arange(w, device=motion.device) + 1) / w - 1
    here = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).flatten(0, 1)
    until = (times[:, None] - times[None, :]).to(motion)  # [s, t]
    return here + 2 * rearrange(until, "s t -> s t 1 1") * rearrange(motion, "b xy -> b 1 1 1 xy")
