"""One evaluation: its models, settings and seeds, and the little that its figures share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from ..families.embedded import worlds
from ..networks.diffusion_model import DiffusionModel
from .metrics import psnr
from .models import How, Models, Sparse
from .unseen import FIRST_SEED

# As in the workflows that come with the project; a test compares them.
FRAMES, SIDE, LARGE_SIDE = 16, 64, 256
LONG_FRAMES, LONG_CONTEXT = 241, 2
IMAGE = How(steps=25, cfg=3.0, sampler="euler_ancestral")
TEXT_TO_VIDEO = replace(IMAGE, steps=50, sparse=Sparse(frames=4, fill_steps=4, fill_denoise=0.25))
INTERPOLATION = How(steps=3, denoise=0.2)
LONG_VIDEO = How(steps=15, cfg=2.0)
UPSAMPLING = How(steps=4)
UPSAMPLING_NOISE_LEVEL = 20

BATCH = 8  # videos that are sampled together
WORLDS = tuple(worlds.WORLDS)


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How much is measured: videos are per world."""

    prompts: int = 128
    aligned: int = 6  # videos whose warping error is compared
    long: int = 16  # long videos
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


def clips(run: Run, model: DiffusionModel, prompts: Sequence[str], number: int, how: How) -> Tensor:
    """Latents of base videos; number: of the first of them, for their seeds."""
    text, seed = run.models.text(prompts), run.seed + number
    return run.models.videos(model, text, how, seed, frames=FRAMES, side=SIDE)


def mean(values: Iterable[float]) -> float:
    """The mean; not a number when there are none."""
    values = list(values)
    return sum(values) / len(values) if values else float("nan")


def mean_psnr(x: Tensor, y: Tensor) -> float:
    """The mean of the PSNR of each video [b t c h w], in dB."""
    return mean(psnr(one, other) for one, other in zip(x, y, strict=True))
