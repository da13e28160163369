"""CLIP_VISION of the standalone host."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

from ....core.families.open_clip_image import DEVIATION, MEAN


@dataclass(frozen=True, eq=False)
class ClipVision:
    """An image encoder on a wire."""

    encoder: CLIPVisionModelWithProjection

    @property
    def side(self) -> int:
        """Size of the encoder's square images in pixels."""
        return self.encoder.config.image_size

    @torch.no_grad()
    def embedding(self, pixels: Tensor) -> Tensor:
        """Projected embeddings [n, d], float32, of normalised pixels [n, 3, side, side]."""
        like = self.encoder.visual_projection.weight
        return self.encoder(pixels.to(like)).image_embeds.float()

    def encode_image(self, image: Tensor, crop: bool = True) -> SimpleNamespace:
        """ComfyUI's method for an IMAGE [n, h, w, 3], with ComfyUI's resizing and rounding."""
        pixels = _comfyui_pixels(image[..., :3].movedim(-1, 1), self.side, crop)
        return SimpleNamespace(image_embeds=self.embedding(pixels))


def _comfyui_pixels(images: Tensor, side: int, crop: bool) -> Tensor:
    """The centre crop, or the squashed whole, of images in [0, 1], rounded to bytes and
    normalised."""
    height, width = images.shape[-2:]
    if (height, width) != (side, side):
        scale = side / min(height, width)
        size = (round(scale * height), round(scale * width)) if crop else (side, side)
        images = F.interpolate(images, size=size, mode="bicubic", antialias=True)
        top, left = ((images.shape[k] - side) // 2 for k in (-2, -1))
        images = images[..., top : top + side, left : left + side]
    images = (255.0 * images).clip(0, 255).round() / 255.0
    mean, deviation = (images.new_tensor(one)[:, None, None] for one in (MEAN, DEVIATION))
    return (images - mean) / deviation
