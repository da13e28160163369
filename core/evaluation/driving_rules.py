"""Light, detail and motion of frames of the world `driving`, read from their pixels by rule.

The sky has one of the known lights throughout a video, the road moves in every frame, and edges are
sharp. Cars and lane marks are recognised by `car_rules` and `road_rules`, but only in videos that
are sharper than those of the 3D autoencoder.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..families.embedded.worlds.driving_ground import HORIZON, LIGHTS

SKY = 0.18
"""Fraction of the height, from the top, that shows only sky."""

NAMES = tuple(LIGHTS)


class FrameMeasures(NamedTuple):
    """light [b t]: index in NAMES. sky_error [b t]: mean difference of the sky's colours from that
    light's. detail [b t]: mean difference of neighbouring pixels. motion [b t - 1]: mean difference
    from the previous frame. Pixels are in [0, 1]."""

    light: Tensor
    sky_error: Tensor
    detail: Tensor
    motion: Tensor


def measure_frames(video: Tensor) -> FrameMeasures:
    """Measure videos [b t 3 h w] in [-1, 1]."""
    pixels = video / 2 + 0.5
    rows = max(1, round(SKY * video.shape[-2]))
    column = pixels[..., :rows, :].median(dim=-1).values
    skies = torch.stack([_sky(name, rows, video.shape[-2]) for name in NAMES]).to(column)
    error = (column[:, :, None] - skies).abs().mean(dim=(-2, -1))
    across, down = pixels.diff(dim=-1).abs(), pixels.diff(dim=-2).abs()
    return FrameMeasures(
        light=error.argmin(dim=-1),
        sky_error=error.amin(dim=-1),
        detail=across.mean(dim=(2, 3, 4)) + down.mean(dim=(2, 3, 4)),
        motion=pixels.diff(dim=1).abs().mean(dim=(2, 3, 4)),
    )


def _sky(name: str, rows: int, height: int) -> Tensor:
    """The rendered colours [3 rows] of a cloudless sky."""
    colors = LIGHTS[name]
    up = 1 - (np.arange(rows) + 0.5) / height / HORIZON
    stops = np.array([colors.horizon, colors.middle, colors.zenith])
    return torch.from_numpy(np.stack([np.interp(up, (0, 0.45, 1), stop) for stop in stops.T]))
