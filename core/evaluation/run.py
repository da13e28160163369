"""One evaluation: its models, settings and seeds, and the little that its figures share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import worlds
from .metrics import psnr
from .models import How, Models
from .unseen import FIRST_SEED

# As in the workflows that come with the project; a test compares them.
FRAMES, SIDE, LARGE_SIDE = 16, 64, 256
TEXT_TO_VIDEO = How(steps=25, cfg=3.0)
INTERPOLATION = How(steps=8)
UPSAMPLING = How(steps=6)
UPSAMPLING_NOISE_LEVEL = 20

BATCH = 8  # videos that are sampled together
WORLDS = tuple(worlds.WORLDS)


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How much is measured: clips are per world."""

    prompts: int = 128
    aligned: int = 6  # videos whose warping error is compared
    interpolated: int = 4
    upsampled: int = 4
    upsampled_frames: int = 8
    decoded: int = 8
    real_frames: int = 16


@dataclass(frozen=True, kw_only=True)
class Run:
    """The models, the first seed and how much is measured."""

    models: Models
    seed: int = FIRST_SEED
    counts: Counts = field(default_factory=Counts)


def shrunk(video: Tensor, factor: int = 4) -> Tensor:
    """Means of squares of pixels, [b t c h w]."""
    return _per_frame(partial(F.avg_pool2d, kernel_size=factor), video)


def bicubic(video: Tensor, factor: int = 4) -> Tensor:
    """Enlarged frames [b t c h w], within [-1, 1]."""
    enlarge = partial(F.interpolate, scale_factor=factor, mode="bicubic", align_corners=False)
    return _per_frame(enlarge, video).clamp(-1, 1)


def _per_frame(function: Callable[[Tensor], Tensor], video: Tensor) -> Tensor:
    return function(video.flatten(0, 1)).unflatten(0, video.shape[:2])


def blended(keys: Tensor, factor: int) -> Tensor:
    """Key frames [b k ...] with `factor` - 1 linear blends between each two of them."""
    at = torch.arange((keys.shape[1] - 1) * factor + 1)
    low = (at // factor).clamp_max(keys.shape[1] - 2)
    weight = ((at - low * factor) / factor).reshape(1, -1, *[1] * (keys.ndim - 2)).to(keys)
    return torch.lerp(keys[:, low], keys[:, low + 1], weight)


def mean(values: Iterable[float]) -> float:
    """The mean; not a number when there are none."""
    values = list(values)
    return sum(values) / len(values) if values else float("nan")


def mean_psnr(x: Tensor, y: Tensor) -> float:
    """The mean of the PSNR of each video [b t c h w], in dB."""
    return mean(psnr(one, other) for one, other in zip(x, y, strict=True))
