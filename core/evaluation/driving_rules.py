"""What a frame of the world `driving` shows, read from its pixels by rule.

The sky has one of three known lights all through a video, the road moves in every frame, and edges
are sharp. Cars and marks, which the 3D autoencoder blurs too much for rules, are read in sharper
videos by `road_rules` and `car_rules`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..families.embedded.worlds.driving_ground import HORIZON, LIGHTS

SKY = 0.18
"""Share of the height, from the top, in which there is nothing but sky."""

NAMES = tuple(LIGHTS)


class Seen(NamedTuple):
    """Of each frame of videos: the number in NAMES of its light [b t]; how far the colours of its
    sky are from that light's, of 1 [b t]; the mean difference of neighbouring pixels [b t]; and of
    each frame from the one before [b t - 1]."""

    light: Tensor
    sky_error: Tensor
    detail: Tensor
    motion: Tensor


def seen(video: Tensor) -> Seen:
    """What a video [b t 3 h w] in [-1, 1] shows."""
    pixels = video / 2 + 0.5
    rows = max(1, round(SKY * video.shape[-2]))
    column = pixels[..., :rows, :].median(dim=-1).values
    skies = torch.stack([_sky(name, rows, video.shape[-2]) for name in NAMES]).to(column)
    error = (column[:, :, None] - skies).abs().mean(dim=(-2, -1))
    across, down = pixels.diff(dim=-1).abs(), pixels.diff(dim=-2).abs()
    return Seen(
        light=error.argmin(dim=-1),
        sky_error=error.amin(dim=-1),
        detail=across.mean(dim=(2, 3, 4)) + down.mean(dim=(2, 3, 4)),
        motion=pixels.diff(dim=1).abs().mean(dim=(2, 3, 4)),
    )


def _sky(name: str, rows: int, height: int) -> Tensor:
    """The colours [3 rows] of a sky without clouds, as it is drawn."""
    colors = LIGHTS[name]
    up = 1 - (np.arange(rows) + 0.5) / height / HORIZON
    stops = np.array([colors.horizon, colors.middle, colors.zenith])
    return torch.from_numpy(np.stack([np.interp(up, (0, 0.45, 1), stop) for stop in stops.T]))
