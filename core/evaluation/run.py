"""The models, settings and seeds of an evaluation, and helpers that its figures share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from ..families.embedded import worlds
from ..networks.diffusion_model import DiffusionModel
from .metrics import psnr
from .models import Models, Settings, Sparse
from .unseen import FIRST_SEED

# As in the shipped workflows, which a test checks.
FRAMES, SIDE, LARGE_SIDE = 16, 64, 256
LONG_FRAMES, LONG_CONTEXT = 241, 2
IMAGE = Settings(steps=25, cfg=3.0, sampler="euler_ancestral")
TEXT_TO_VIDEO = replace(IMAGE, steps=50, sparse=Sparse(frames=4, fill_steps=4, fill_denoise=0.25))
INTERPOLATION = Settings(steps=3, denoise=0.2)
LONG_VIDEO = Settings(steps=15, cfg=2.0)
UPSAMPLING = Settings(steps=4)
UPSAMPLING_NOISE_LEVEL = 20

BATCH = 8  # videos that are sampled together
WORLDS = tuple(worlds.WORLDS)


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Sizes of the samples; videos are per world."""

    prompts: int = 128
    aligned: int = 6  # videos for the warping error
    long: int = 16  # long videos
    interpolated: int = 4
    upsampled: int = 4
    upsampled_frames: int = 8
    decoded: int = 8
    real_frames: int = 16


@dataclass(frozen=True, kw_only=True)
class Run:
    """The models, the first seed and the sizes of the samples."""

    models: Models
    seed: int = FIRST_SEED
    counts: Counts = field(default_factory=Counts)


def clips(
    run: Run, model: DiffusionModel, prompts: Sequence[str], number: int, settings: Settings
) -> Tensor:
    """Latents [b t c h w] of base videos; number: index of the first prompt, for the seeds."""
    text, seed = run.models.text(prompts), run.seed + number
    return run.models.videos(model, text, settings, seed, frames=FRAMES, side=SIDE)


def mean(values: Iterable[float]) -> float:
    """The mean; NaN without values."""
    values = list(values)
    return sum(values) / len(values) if values else float("nan")


def mean_psnr(x: Tensor, y: Tensor) -> float:
    """Mean over videos [b t c h w] of the PSNR of each, in dB."""
    return mean(psnr(one, other) for one, other in zip(x, y, strict=True))
