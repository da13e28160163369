"""Training of networks that are given frames (He et al. 2022, sections 3.2 and 3.3).

One mask per video decides what it is an example of: interpolation (its ends are given), prediction
(its first frames are) or making a video from nothing. Given frames stand among the noisy ones,
noised to a level of their own that the network is told:

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
"""Given frames are noised to a step below this one."""


@dataclass(frozen=True, kw_only=True)
class MaskDistribution:
    """How often a video is an example of interpolation, of prediction, and else of neither.

    n_previous: how many first frames prediction is given, each as often.
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
    """What a batch is noised with: level s of the given frames [b], step t of the others [b], and
    standard normal noise of each [b t c h w]."""

    level: Tensor
    step: Tensor
    given: Tensor
    made: Tensor


def draw_noise(x0: Tensor, steps: int, generator: torch.Generator) -> Noise:
    """Levels below HIGHEST_LEVEL, steps below `steps`."""
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
    """Error [b t c h w] of the prediction, of given frames too, for videos x0 with mask [b t].

    prediction: "eps", as published, or "v", which is learnt sooner: at late steps the best answer
    is not nearly the input.
    The level is told of videos that are given nothing, too, as in the original. Sampling tells none
    then.
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
    """Error [b t c h w] of the predicted noise at step [b], where no frames are given."""
    return network(schedule.add_noise(x0, noise, step), step, conditions) - noise


def l1(error: Tensor) -> Tensor:
    """The published loss of all networks but that for text."""
    return error.abs().mean()


def l2(error: Tensor) -> Tensor:
    """The published loss of the network for text."""
    return F.mse_loss(error, torch.zeros_like(error))
