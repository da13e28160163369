"""Resizes images and latents with the methods that ComfyUI's nodes offer."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

LATENT_METHODS = ("nearest-exact", "bilinear", "area", "bicubic", "bislerp")
IMAGE_METHODS = ("nearest-exact", "bilinear", "area", "bicubic", "lanczos")
CROPS = ("disabled", "center")

PARALLEL = 1 - 1e-5
"""Vectors whose |cosine| exceeds this count as parallel: no plane to rotate in."""


def resize(x: Tensor, width: int, height: int, method: str, crop: str = "disabled") -> Tensor:
    """Resize [n, c, h, w] or [n, c, t, h, w]. `crop` "center" keeps the proportions by cropping."""
    if width < 1 or height < 1:
        raise ValueError(f"the size {width}x{height} must be at least 1x1")
    if x.ndim == 5:
        frames = x.movedim(2, 1)
        resized = resize(frames.flatten(0, 1), width, height, method, crop)
        return resized.unflatten(0, frames.shape[:2]).movedim(1, 2)
    x = centred(x, width / height) if crop == "center" else x
    if method == "bislerp":
        return bislerp(x, width, height)
    if method == "lanczos":
        return lanczos(x, width, height)
    return F.interpolate(x, size=(height, width), mode=method)


def centred(x: Tensor, aspect: float) -> Tensor:
    """Center crop of [..., h, w] to the aspect ratio width / height."""
    height, width = x.shape[-2:]
    have = width / height
    left = top = 0
    if have > aspect:
        left = round((width - width * (aspect / have)) / 2)
    elif have < aspect:
        top = round((height - height * (have / aspect)) / 2)
    return x[..., top : height - top, left : width - left]


def lanczos(x: Tensor, width: int, height: int) -> Tensor:
    """Lanczos resampling of images [n, c, h, w] in [0, 1], truncated to 8 bits first."""
    bytes_ = (255.0 * x).clamp(0, 255).movedim(1, -1).cpu().numpy().astype(np.uint8)
    grey = bytes_.shape[-1] == 1
    pictures = (Image.fromarray(one[..., 0] if grey else one) for one in bytes_)
    resized = [
        np.asarray(one.resize((width, height), Image.Resampling.LANCZOS)) for one in pictures
    ]
    images = torch.from_numpy(np.array(resized, dtype=np.float32) / 255.0).to(x)
    return images[:, None] if grey else images.movedim(-1, 1)


# --------------------------------------------------------------------------------------------------
# Latents, where the norm of each position's vector matters as much as its direction.


def bislerp(x: Tensor, width: int, height: int) -> Tensor:
    """Bilinear resizing of [n, c, h, w] that uses slerp over the channels in place of lerp."""
    wide = _slerped(x.float(), width, -1)
    return _slerped(wide, height, -2).to(x)


def _slerped(x: Tensor, size: int, axis: int) -> Tensor:
    """Resize one axis of [n, c, h, w] to `size`, by slerp between the two nearest positions."""
    length = x.shape[axis]
    at = (torch.arange(size, device=x.device) + 0.5) * (length / size) - 0.5
    at = at.clamp(0, length - 1)
    low = at.floor().long()
    ratio = (at - low).reshape(-1, *[1] * (-1 - axis))
    high = (low + 1).clamp(max=length - 1)
    return slerp(x.index_select(axis, low), x.index_select(axis, high), ratio)


def slerp(a: Tensor, b: Tensor, ratio: Tensor) -> Tensor:
    """Spherical interpolation from a to b over axis 1; norms are interpolated linearly."""
    length_a, length_b = (one.norm(dim=1, keepdim=True) for one in (a, b))
    unit_a, unit_b = F.normalize(a, dim=1), F.normalize(b, dim=1)
    cosine = (unit_a * unit_b).sum(1, keepdim=True)
    omega = torch.acos(cosine.clamp(-PARALLEL, PARALLEL))
    turned = torch.sin((1 - ratio) * omega) * unit_a + torch.sin(ratio * omega) * unit_b
    turned = turned / torch.sin(omega) * torch.lerp(length_a, length_b, ratio)
    turned = torch.where(cosine > PARALLEL, a, turned)
    return torch.where(cosine < -PARALLEL, torch.lerp(a, b, ratio), turned)
