"""The numbers of AnimateLCM's own sampling, which its files do not hold."""

from __future__ import annotations

import torch
from torch import Tensor


def lcm_timesteps(steps: int, *, distilled: int = 100, total: int = 1000) -> Tensor:
    """[steps] descending int64: evenly spaced among the ``distilled`` timesteps that a consistency
    model was trained on, k, 2k, ... minus 1. The text-to-video layers know 100, those that take an
    image 200.

    Raises ValueError for more steps than there are.
    """
    if not 1 <= steps <= distilled:
        raise ValueError(
            f"the layers were trained on 1 to {distilled} steps, but {steps} are asked"
        )
    known = (torch.arange(1, distilled + 1) * (total // distilled) - 1).flip(0)
    # floor(k distilled / steps), as numpy's linspace without the end.
    return known[torch.arange(steps) * distilled // steps]
