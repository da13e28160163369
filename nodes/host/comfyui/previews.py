"""Pictures of latents while they are sampled: some frames of the clip, side by side."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

MOST = 16
"""Frames in one picture, evenly chosen from those of the clip."""
SAMPLES, SEED = 8, 30_000
"""Rendered frames of each world that the embedded latents' colours are fitted to."""


@dataclass
class Previews:
    """What was denoised last, until it has been shown."""

    model: Any = None
    denoised: Tensor | None = None

    def offer(self, model: Any, denoised: Tensor) -> None:
        """Latents [(b t), c, h, w] as the network knows them."""
        self.model, self.denoised = model, denoised

    def take(self) -> tuple[str, Image.Image, int] | None:
        """A picture in the form ComfyUI sends, or None if nobody wants or knows how to make one."""
        model, denoised = self.model, self.denoised
        self.model = self.denoised = None
        if denoised is None:
            return None
        from latent_preview import get_previewer

        previewer = get_previewer(model.load_device, model.model.latent_format)
        if previewer is None:
            return None
        chosen = torch.linspace(0, len(denoised) - 1, min(MOST, len(denoised))).round().long()
        parts = [previewer.decode_latent_to_preview_image("JPEG", denoised[k : k + 1])
                 for k in chosen.tolist()]  # fmt: skip
        return parts[0][0], side_by_side([part[1] for part in parts]), parts[0][2]


def side_by_side(frames: list[Image.Image]) -> Image.Image:
    """Frames of one size in rows, as nearly a square as they give."""
    columns = math.ceil(len(frames) ** 0.5)
    rows = math.ceil(len(frames) / columns)
    width, height = frames[0].size
    sheet = Image.new("RGB", (columns * width, rows * height))
    for k, frame in enumerate(frames):
        sheet.paste(frame, (k % columns * width, k // columns * height))
    return sheet


@torch.no_grad()
def rgb_factors(autoencoder: Path) -> tuple[list[list[float]], list[float]]:
    """(factors [c][3], bias [3]) from scaled latents to RGB in [-1, 1] that come closest, in least
    squares, to rendered frames which the autoencoder has encoded."""
    from torch.nn.functional import avg_pool2d

    from ....core.autoencoder import encode
    from ....core.families.embedded import load_autoencoder
    from ....core.worlds import random_clip

    frames = torch.cat([
        torch.from_numpy(random_clip(world, SEED + k, frames=1, size=64, rate=0.25).frames.copy())
        for world in ("shapes", "driving") for k in range(SAMPLES)
    ])  # fmt: skip
    latents = encode(load_autoencoder(autoencoder), frames[None])[0]
    colours = avg_pool2d(frames, frames.shape[-1] // latents.shape[-1])
    inputs = torch.cat([latents, torch.ones_like(latents[:, :1])], dim=1)
    columns = (x.movedim(1, -1).flatten(0, 2).double() for x in (inputs, colours))
    solved = torch.linalg.lstsq(*columns).solution.float().tolist()
    return solved[:-1], solved[-1]
