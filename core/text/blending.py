"""Interpolation between two encoded prompts."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

PARALLEL = 1e-4
"""Sine of the angle below which linear interpolation is as good."""


def linear(a: Tensor, b: Tensor, share: float) -> Tensor:
    """(1 - share) a + share b."""
    return (1 - share) * a + share * b


def spherical(a: Tensor, b: Tensor, share: float) -> Tensor:
    """Spherical linear interpolation (Shoemake 1985, section 3.3) of vectors [..., d].

    The angle grows in proportion to the share, and vectors of equal length keep it, while a linear
    mean of vectors in different directions is shorter. (Anti-)parallel vectors are mixed linearly.
    """
    u, v = normalize(a, dim=-1), normalize(b, dim=-1)
    # Near 0, an arc cosine would lose half of its digits.
    lengths = ((u - v).norm(dim=-1, keepdim=True), (u + v).norm(dim=-1, keepdim=True))
    angle = 2 * torch.atan2(*lengths)
    sine = torch.sin(angle)
    arc = (torch.sin((1 - share) * angle) * a + torch.sin(share * angle) * b) / sine
    return torch.where(sine > PARALLEL, arc, linear(a, b, share))
