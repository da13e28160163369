"""LVDM's joint training on context frames (He et al. 2022, sections 3.2 and 3.3).

The mask of a video makes it an example of interpolation (its ends are given), of prediction (its
first frames are) or of unconditional generation. Given frames take the place of noisy ones, noised
to a level s of their own that conditions the network:

    x = (1 - m) q(x0, t, n1) + m q(x0, s, n2),    target = (1 - m) n1 + m n2
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..diffusion.denoiser import Prediction
from ..diffusion.schedules import NoiseSchedule
from ..networks.conditions import Conditions, Network
from ..networks.context_frames import ContextFrames

HIGHEST_LEVEL = 250
"""Exclusive upper bound of the noise level of given frames."""


@dataclass(frozen=True, kw_only=True)
class MaskDistribution:
    """Probabilities of interpolation and of prediction; the rest is unconditional.

    n_previous: numbers of first frames that prediction is given, equally likely.
    """

    interpolation: float = 0.0
    prediction: float = 0.5
    n_previous: Sequence[int] = (1,)

    def __post_init__(self) -> None:
        if min(self.interpolation, self.prediction) < 0 or self.interpolation + self.prediction > 1:
            raise ValueError(
                f"The shares of interpolation {self.interpolation} and of prediction "
                f"{self.prediction} must not be negative, nor more than 1 together."
            )

    def draw(self, frames: int, random: Random) -> list[float]:
        """The mask of one video, 1 = given."""
        mask, r = [0.0] * frames, random.random()
        if r < self.interpolation:
            mask[0] = mask[-1] = 1.0
        elif r < self.interpolation + self.prediction:
            count = random.choice(self.n_previous)
            mask[:count] = [1.0] * count
        return mask


class Noise(NamedTuple):
    """The noise of a batch: level s of the given frames [b], step t of the others [b], and standard
    normal noise for each [b t c h w]."""

    level: Tensor
    step: Tensor
    given: Tensor
    made: Tensor


def draw_noise(x0: Tensor, steps: int, generator: torch.Generator) -> Noise:
    """Draw levels below HIGHEST_LEVEL and steps below `steps`, both uniform."""
    where = dict(generator=generator, device=x0.device)
    level = torch.randint(0, HIGHEST_LEVEL, (len(x0),), **where)
    step = torch.randint(0, steps, (len(x0),), **where)
    made = torch.randn(x0.shape, **where)
    return Noise(level, step, torch.randn(x0.shape, **where), made)


def given_frames_error(
    network: Network,
    schedule: NoiseSchedule,
    x0: Tensor,
    mask: Tensor,
    noise: Noise,
    *,
    prediction: Prediction = "eps",
) -> Tensor:
    """Error [b t c h w] of the prediction for videos x0 with mask [b t], given frames included.

    prediction: "eps", as published, or "v", which is learned sooner, as at late steps the target is
    not close to the input. As in the original, the level is passed even for videos without given
    frames; sampling passes none for them.
    """
    m = mask[:, :, None, None, None].to(x0)
    given = schedule.add_noise(x0, noise.given, noise.level)
    x = torch.lerp(schedule.add_noise(x0, noise.made, noise.step), given, m)
    context = ContextFrames(latents=given * m, mask=mask, noise_level=noise.level.float())
    if prediction == "v":
        target = torch.lerp(
            schedule.velocity(x0, noise.made, noise.step),
            schedule.velocity(x0, noise.given, noise.level),
            m,
        )
    else:
        target = torch.lerp(noise.made, noise.given, m)
    return network(x, noise.step, Conditions(context=context)) - target


def noise_error(
    network: Network,
    schedule: NoiseSchedule,
    x0: Tensor,
    noise: Tensor,
    step: Tensor,
    conditions: Conditions,
) -> Tensor:
    """Error [b t c h w] of the predicted noise at step [b], without given frames."""
    return network(schedule.add_noise(x0, noise, step), step, conditions) - noise


def l1(error: Tensor) -> Tensor:
    """The published loss of all networks but the text-to-video one."""
    return error.abs().mean()


def l2(error: Tensor) -> Tensor:
    """The published loss of the text-to-video network."""
    return F.mse_loss(error, torch.zeros_like(error))
