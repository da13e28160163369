"""The embedded family's prompt reader, only for its own temporal layers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...networks.layers.specs import ModuleSpec, module_kind


@module_kind("prompt reader")
@dataclass(frozen=True, kw_only=True)
class PromptReaderSpec(ModuleSpec):
    """text: width of the prompt's tokens. motions: how many to extract from a prompt."""

    text: int
    motions: int

    def build(self, width: int, ops=nn) -> PromptReader:
        """`width` is that of the time embedding."""
        return PromptReader(width, self, ops)


class PromptReader(nn.Module):
    """Extracts from the prompt what temporal layers read: whitened tokens, a summary that is added
    to the time embedding, and the motions that it describes.

    What an image model hardly needs, such as the direction of a motion, is faint in the tokens of
    its text encoder. ``whiten`` starts as a transform that gives all directions of the token space
    the same variance (:meth:`start_whitening`).
    """

    LENGTH = 48  # tokens that the summary reads: longer prompts are cut, shorter ones padded
    WIDTH = 32  # of a token in the summary

    def __init__(self, embedding: int, spec: PromptReaderSpec, ops=nn):
        super().__init__()
        width, motions = spec.text, spec.motions
        # Subtracted in float32: in some directions the rest is a hundredth of the tokens' size.
        self.center = nn.Parameter(torch.zeros(width))
        self.whiten = ops.Linear(width, width)
        self.read = nn.Sequential(
            ops.Linear(width, self.WIDTH),
            nn.SiLU(),
            nn.Flatten(),
            ops.Linear(self.LENGTH * self.WIDTH, embedding),
            nn.SiLU(),
        )
        self.embed = ops.Linear(embedding, embedding)
        self.move = ops.Linear(embedding, 2 * motions)

    def forward(self, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(tokens [b, n, d], summary [b, e], motions [b, m, 2]) of prompts [b, n, d]; motions are
        (x, y) in fractions of the image's sides per frame."""
        centered = text.float() - self.center.to(text.device).float()
        tokens = self.whiten(centered.to(text.dtype))
        first = F.pad(tokens[:, : self.LENGTH], (0, 0, 0, max(0, self.LENGTH - text.shape[1])))
        summary = self.read(first)
        percents = self.move(summary).unflatten(1, (-1, 2))
        return tokens, self.embed(summary), percents / 100

    def start_whitening(self, tokens: Tensor) -> None:
        """Initialise the whitening from sample ``tokens`` [n, d]."""
        self.center.data.copy_(tokens.mean(0))
        whiten(self.whiten, tokens - self.center.data)


@torch.no_grad()
def whiten(layer: nn.Linear, centered: Tensor, least: float = 1e-3) -> None:
    """Set ``layer`` to whiten ``centered`` samples [n, d]; ``least`` times the largest variance is
    added to all variances, so that the smallest are not amplified without limit."""
    variances, axes = torch.linalg.eigh(centered.T @ centered / len(centered))
    matrix = axes @ torch.diag((variances + least * variances.max()).rsqrt()) @ axes.T
    layer.weight.copy_(matrix)
    layer.bias.zero_()
