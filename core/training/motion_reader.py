"""Training the temporal layers' prompt reader, which regresses motions from captions.

It is trained before the first step on videos and then frozen, so that attention follows roughly the
right motions from the start.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..families.embedded import worlds
from ..families.embedded.prompt_reader import PromptReader
from .optimizer import MuonAdamW

LEARNING_RATE, BATCH = 4e-3, 96


def train_reader(
    reader: PromptReader, text: Tensor, scenes: Sequence[worlds.Scene], *, steps: int, seed: int
) -> None:
    """Train the reader on the encoded captions [n, tokens, d] of n scenes."""
    motions = torch.stack([motions_of(scene) for scene in scenes]).float()
    reader.start_whitening(text[:512].flatten(0, 1))
    optimizer = MuonAdamW(reader, lr=LEARNING_RATE, weight_decay=0.05)
    random = np.random.default_rng(seed)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * (1 - step / steps)
        chosen = random.integers(len(scenes), size=BATCH)
        percents = 100 * (reader(text[chosen])[2] - motions[chosen])
        percents.square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def motions_of(scene: worlds.Scene) -> Tensor:
    """The motions in a scene [8, 2]: (x, y) as fractions of the image's sides per base frame.

    Shapes: motion of the left, right, upper and lower edge of up to two objects; zeros for a
    missing one. Driving: motion of four points on the road, for a slow and for a fast car.
    """
    if isinstance(scene, worlds.ShapesScene):
        edges = torch.from_numpy(worlds.shapes.edge_motions(scene)).flatten(0, 1)
        return F.pad(edges, (0, 0, 0, 8 - len(edges)))
    return torch.from_numpy(worlds.driving.road_motions(scene))
