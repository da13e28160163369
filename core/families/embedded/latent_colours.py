"""RGB approximation of the family's latents, for previews."""

from __future__ import annotations

from pathlib import Path

import torch

from ...networks.autoencoder import encode
from .loading import load_autoencoder
from .worlds import random_video

SAMPLES, SEED = 8, 30_000
"""Number and first seed of the rendered frames of each world that the fit uses."""


@torch.no_grad()
def rgb_factors(autoencoder: Path) -> tuple[list[list[float]], list[float]]:
    """(factors [c][3], bias [3]) from scaled latents to RGB in [-1, 1]: the least squares fit to
    encoded rendered frames."""
    frames = torch.cat([
        torch.from_numpy(random_video(world, SEED + k, frames=1, size=64, rate=0.25).frames.copy())
        for world in ("shapes", "driving") for k in range(SAMPLES)
    ])  # fmt: skip
    latents = encode(load_autoencoder(autoencoder), frames[None])[0]
    colours = torch.nn.functional.avg_pool2d(frames, frames.shape[-1] // latents.shape[-1])
    inputs = torch.cat([latents, torch.ones_like(latents[:, :1])], dim=1)
    columns = (x.movedim(1, -1).flatten(0, 2).double() for x in (inputs, colours))
    solved = torch.linalg.lstsq(*columns).solution.float().tolist()
    return solved[:-1], solved[-1]
