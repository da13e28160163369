"""Resizing LATENT and IMAGE, with the rounding of ComfyUI's nodes."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ....core.diffusion.resizing import resize

FACTOR, SMALLEST = 8, 64
"""Pixels per latent position, and the least side in pixels, in `latent_to`."""


def latent_to(latent: dict[str, Any], width: int, height: int, method: str, crop: str
              ) -> dict[str, Any]:  # fmt: skip
    """Latents resized to this size in pixels; a side of 0 keeps the aspect ratio."""
    if width == 0 and height == 0:
        return latent
    samples = latent["samples"]
    # As in ComfyUI, a missing side is computed from the latents' sides, in pixels.
    width, height = (
        max(SMALLEST, side) for side in _completed(width, height, samples, least=SMALLEST)
    )
    resized = resize(samples, width // FACTOR, height // FACTOR, method, crop)
    return {**latent, "samples": resized}


def latent_by(latent: dict[str, Any], factor: float, method: str) -> dict[str, Any]:
    samples = latent["samples"]
    height, width = (round(side * factor) for side in samples.shape[-2:])
    return {**latent, "samples": resize(samples, width, height, method)}


def image_to(image: Tensor, width: int, height: int, method: str, crop: str) -> Tensor:
    """An IMAGE [T, H, W, C] resized to this size; a side of 0 keeps the aspect ratio."""
    if width == 0 and height == 0:
        return image
    channels_first = image.movedim(-1, 1)
    width, height = _completed(width, height, channels_first, least=1)
    return resize(channels_first, width, height, method, crop).movedim(1, -1)


def image_by(image: Tensor, factor: float, method: str) -> Tensor:
    channels_first = image.movedim(-1, 1)
    height, width = (round(side * factor) for side in channels_first.shape[-2:])
    return resize(channels_first, width, height, method).movedim(1, -1)


def _completed(width: int, height: int, x: Tensor, *, least: int) -> tuple[int, int]:
    """Width and height, of which one may be 0 for the aspect ratio of x [..., h, w]."""
    rows, columns = x.shape[-2:]
    if width == 0:
        height = max(least, height)
        return max(least, round(columns * height / rows)), height
    if height == 0:
        width = max(least, width)
        return width, max(least, round(rows * width / columns))
    return width, height
