"""The Video Sampler's strategies as noise plans: which frame is at which noise level when."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...core.diffusion.schedules import get_sigmas, scaled_linear
from ...core.tasks.noise_plan import (
    NoisePlan,
    hierarchical_plan,
    prediction_plan,
    rolling_plan,
    single_plan,
    sliding_plan,
)
from ...core.tasks.rolling import Rolling
from ...core.tasks.window_schedules import WindowLayout
from ..choices import (
    AS_PUBLISHED,
    HIERARCHICAL,
    PREDICTION,
    ROLLING,
    SLIDING_WINDOWS,
    SPARSE_FIRST,
)
from .strategy import Strategy

if TYPE_CHECKING:
    from PIL import Image

LARGEST = 2048
"""Maximum side of the image in pixels."""
CLEAN, NOISE, UNSEEN = (40.0, 70.0, 140.0), (250.0, 220.0, 90.0), 0.55


def usual_sigmas(schedule: str, steps: int, denoise: float = 1.0) -> Tensor:
    """Sigmas [steps + 1] of a schedule over latent diffusion's usual betas. An actual model may
    have others; "as published" is replaced by "uniform"."""
    name = "uniform" if schedule == AS_PUBLISHED else schedule
    return get_sigmas(name, scaled_linear(), steps, strength=denoise)


def plan_of(strategy: Strategy, frames: int, sigmas: Tensor) -> NoisePlan:
    """The noise plan of a strategy; ValueError for settings that do not fit each other, and for
    sparse first, in which noise levels also rise."""
    if strategy.name == SPARSE_FIRST:
        raise ValueError(
            "sparse first takes all frames a step back up at the end, so its noise levels do not "
            "only fall"
        )
    if strategy.name == PREDICTION:
        return prediction_plan(frames, sigmas, strategy.window, strategy.context_frames)
    if strategy.name == HIERARCHICAL:
        lengths = strategy.window, strategy.context_frames
        return hierarchical_plan(frames, sigmas, *lengths, passes=strategy.passes)
    if strategy.name == ROLLING:
        rolling = Rolling(window=strategy.window, lookahead=strategy.lookahead, eta=strategy.eta)
        return rolling_plan(frames, sigmas, rolling)
    if SLIDING_WINDOWS in (strategy.name, strategy.windows):
        layout = WindowLayout(
            window=strategy.window, overlap=strategy.overlap, strides=strategy.strides,
            schedule=strategy.window_schedule, fuse=strategy.fuse,
        )  # fmt: skip
        return sliding_plan(frames, sigmas, layout)
    return single_plan(frames, sigmas)


# --------------------------------------------------------------------------------------------------
# Drawing.


def figures(plan: NoisePlan) -> dict[str, int]:
    return {
        "frames": plan.frames,
        "rows": len(plan.calls),
        "together": plan.together,
        "evaluations": plan.evaluations,
    }


def drawn(plan: NoisePlan) -> Image.Image:
    """Draw a plan, with frames from left to right and rows of evaluations downwards: yellow is pure
    noise, blue is finished, and frames that the model does not see in a row are darkened."""
    from PIL import Image

    image = Image.fromarray(_colours(plan).numpy())
    scale = max(1, min(8, LARGEST // max(image.size)))
    size = [min(side * scale, LARGEST) for side in image.size]
    return image.resize(size, Image.Resampling.NEAREST)


def _colours(plan: NoisePlan) -> Tensor:
    """Colours [rows, frames, 3] uint8 of the noise levels after each row."""
    left = (1 - plan.taken[1:].double() / (len(plan.sigmas) - 1))[..., None]
    clean, noise = torch.tensor(CLEAN), torch.tensor(NOISE)
    lit = torch.full(left.shape, UNSEEN, dtype=torch.float64)
    for row, calls in enumerate(plan.calls):
        for one in calls:
            seen = [frame for frame in one.seen if 0 <= frame < plan.frames]
            lit[row, seen] = 1.0
    return ((clean + left * (noise - clean)) * lit).round().to(torch.uint8)
