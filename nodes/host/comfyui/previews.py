"""Previews of latents during sampling: an animation of some of the frames."""

from __future__ import annotations

import time
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import torch
from PIL import Image
from torch import Tensor

MOST = 16
"""Frames in one preview, evenly spaced over those that are sampled together."""
SIDE, LASTS = 256, 125
"""The longer side in pixels, and the duration of a frame in milliseconds."""
INTERVAL = 0.5
"""Least seconds between two previews: a small model's step takes less time than its preview."""


@dataclass
class Previews:
    """The last denoised latents, until they have been shown, and the time of the last preview."""

    model: Any = None
    denoised: Tensor | None = None
    shown: float = float("-inf")

    def offer(self, model: Any, denoised: Tensor) -> None:
        """Take note of denoised, scaled latents [(b t), c, h, w]."""
        self.model, self.denoised = model, denoised

    def take(self) -> tuple[str, Animation, None] | None:
        """An animation in the form that ComfyUI sends (format, picture, largest side). None without
        new latents, if ComfyUI has no previewer for them, or if the last one is too recent."""
        model, denoised = self.model, self.denoised
        self.model = self.denoised = None
        if denoised is None or time.monotonic() - self.shown < INTERVAL:
            return None
        from latent_preview import get_previewer

        previewer = get_previewer(model.load_device, model.model.latent_format)
        if previewer is None:
            return None
        chosen = torch.linspace(0, len(denoised) - 1, min(MOST, len(denoised))).round().long()
        frames = [previewer.decode_latent_to_preview_image("WEBP", denoised[k : k + 1])[1]
                  for k in chosen.tolist()]  # fmt: skip
        self.shown = time.monotonic()
        return "WEBP", Animation(frames), None


def thumbnails(model: Any, latents: Tensor) -> list[Image.Image]:
    """Pictures of latents [t c h w] by the RGB factors of the model's latent format, whatever
    preview method ComfyUI was started with; none without factors."""
    from latent_preview import Latent2RGBPreviewer

    latent_format = model.model.latent_format
    if not latent_format.latent_rgb_factors:
        return []
    reshape = getattr(latent_format, "latent_rgb_factors_reshape", None)
    previewer = Latent2RGBPreviewer(
        latent_format.latent_rgb_factors, latent_format.latent_rgb_factors_bias, reshape
    )
    return [previewer.decode_latent_to_preview(one[None].float()) for one in latents]


class Animation:
    """Frames as one animated picture with `save`, all that ComfyUI needs for a preview without a
    size limit. Browsers play it; other viewers show the first frame.
    """

    def __init__(self, frames: list[Image.Image]):
        frames = [_resized(frame) for frame in frames]
        self.size = frames[0].size
        file = BytesIO()
        frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:], duration=LASTS,
                       loop=0, quality=75, method=0)  # fmt: skip
        self._bytes = file.getvalue()

    def save(self, file: Any, *_: Any, **__: Any) -> None:
        """Write the animation; the format is always WebP."""
        file.write(self._bytes)


def _resized(frame: Image.Image) -> Image.Image:
    """Resize the longer side to SIDE pixels, up or down."""
    scale = SIDE / max(frame.size)
    size = tuple(max(round(side * scale), 1) for side in frame.size)
    return frame.resize(size, Image.Resampling.BILINEAR)
