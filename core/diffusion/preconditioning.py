"""Wraps a network F into a denoiser (Karras et al. 2022, eq. 7)

    D(x; sigma) = c_skip x + c_out F(c_in x; c_noise)

where F predicts the noise, the velocity, x_0, or EDM's own mixture of signal and noise.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from .denoiser import Denoiser, Prediction, broadcast, to_vp, x0_from_v
from .schedules import NoiseSchedule

Function = Callable[[Tensor, Tensor], Tensor]
"""function(c_in x [b ...], c_noise [b] or [b t], float32) -> the network's prediction [b ...]."""


class Coefficients(NamedTuple):
    """The coefficients at a sigma, each of sigma's shape."""

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor
    c_noise: Tensor


class Preconditioning(ABC):
    """How a network's input and output relate to x, sigma and x_0.

    prediction: what the network predicts; for EDM's mixture, the closest of the three. sigma_min,
    sigma_max: the range of noise levels it was trained on.
    """

    prediction: ClassVar[Prediction]
    sigma_min: float
    sigma_max: float

    @abstractmethod
    def coefficients(self, sigma: Tensor) -> Coefficients:
        """The four coefficients at sigma, of any shape."""

    def denoised(self, x: Tensor, answer: Tensor, sigma: Tensor) -> Tensor:
        """c_skip x + c_out F for x and the network's output F [b ...], sigma [], [b] or [b t]."""
        c = self.coefficients(sigma)
        return broadcast(c.c_skip, x) * x + broadcast(c.c_out, x) * answer


def preconditioned(network: Function, preconditioning: Preconditioning) -> Denoiser:
    """The network as denoiser(x [b ...], sigma [], [b] or [b t])."""

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        c = preconditioning.coefficients(sigma)
        answer = network(x * broadcast(c.c_in, x), _per_sample(c.c_noise, x))
        return preconditioning.denoised(x, answer, sigma)

    return denoise


# --------------------------------------------------------------------------------------------------
# Networks trained on a discrete schedule, conditioned on timesteps.


@dataclass(frozen=True)
class DiscretePreconditioning(Preconditioning):
    """c_in converts x to the VP form of the schedule; c_noise is the timestep."""

    schedule: NoiseSchedule

    @property
    def sigma_min(self) -> float:
        return self.schedule.sigma_min

    @property
    def sigma_max(self) -> float:
        return self.schedule.sigma_max

    def _input(self, sigma: Tensor) -> tuple[Tensor, Tensor]:
        return self.schedule.input_scale(sigma), self.schedule.timestep(sigma)


class EpsPreconditioning(DiscretePreconditioning):
    """x_0 = x - sigma eps."""

    prediction = "eps"

    def coefficients(self, sigma: Tensor) -> Coefficients:
        return Coefficients(torch.ones_like(sigma), -sigma, *self._input(sigma))


class VPreconditioning(DiscretePreconditioning):
    """x_0 = x / (sigma^2 + 1) - v sigma / sqrt(sigma^2 + 1)."""

    prediction = "v"

    def coefficients(self, sigma: Tensor) -> Coefficients:
        skip, out = _velocity(sigma)
        return Coefficients(skip, out, *self._input(sigma))

    def denoised(self, x: Tensor, answer: Tensor, sigma: Tensor) -> Tensor:
        return _x0_of_velocity(x, answer, sigma)


class X0Preconditioning(DiscretePreconditioning):
    """x_0 is the network's output."""

    prediction = "x0"

    def coefficients(self, sigma: Tensor) -> Coefficients:
        return Coefficients(torch.zeros_like(sigma), torch.ones_like(sigma), *self._input(sigma))

    def denoised(self, x: Tensor, answer: Tensor, sigma: Tensor) -> Tensor:
        return answer


DISCRETE: dict[str, type[DiscretePreconditioning]] = {
    one.prediction: one for one in (EpsPreconditioning, VPreconditioning, X0Preconditioning)
}


def discrete(prediction: Prediction, schedule: NoiseSchedule) -> DiscretePreconditioning:
    """Preconditioning of a network trained to predict `prediction` on a schedule."""
    if prediction not in DISCRETE:
        raise ValueError(f"Unknown prediction {prediction!r}; known are {', '.join(DISCRETE)}.")
    return DISCRETE[prediction](schedule)


# --------------------------------------------------------------------------------------------------
# Networks trained on continuous noise levels, conditioned on ln(sigma) / 4.


@dataclass(frozen=True, kw_only=True)
class EDMPreconditioning(Preconditioning):
    """Karras et al. 2022, table 1. sigma_data: standard deviation of clean samples."""

    prediction: ClassVar[Prediction] = "x0"

    sigma_data: float = 0.5
    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def coefficients(self, sigma: Tensor) -> Coefficients:
        data = self.sigma_data
        total = (sigma**2 + data**2).sqrt()
        return Coefficients(
            c_skip=data**2 / total**2,
            c_out=sigma * data / total,
            c_in=1 / total,
            c_noise=0.25 * sigma.log(),
        )


@dataclass(frozen=True, kw_only=True)
class ContinuousVPreconditioning(Preconditioning):
    """Velocity prediction over continuous sigma (Stable Video Diffusion: up to 700)."""

    prediction: ClassVar[Prediction] = "v"

    sigma_min: float = 0.002
    sigma_max: float = 700.0

    def coefficients(self, sigma: Tensor) -> Coefficients:
        skip, out = _velocity(sigma)
        return Coefficients(skip, out, (sigma**2 + 1).rsqrt(), 0.25 * sigma.log())

    def denoised(self, x: Tensor, answer: Tensor, sigma: Tensor) -> Tensor:
        return _x0_of_velocity(x, answer, sigma)


def _velocity(sigma: Tensor) -> tuple[Tensor, Tensor]:
    """c_skip and c_out for v-prediction."""
    return 1 / (sigma**2 + 1), -sigma * (sigma**2 + 1).rsqrt()


def _x0_of_velocity(x: Tensor, v: Tensor, sigma: Tensor) -> Tensor:
    """c_skip x + c_out v, computed as a x_vp - s v like in training. The two differ in the last
    bit, and recorded reference videos must stay reproducible."""
    return x0_from_v(to_vp(x, sigma), v, sigma)


def _per_sample(value: Tensor, x: Tensor) -> Tensor:
    """[] -> [b]; [b] and [b t] stay as they are. Float32, on x's device."""
    value = value.float().to(x.device)
    return value.expand(x.shape[0]) if value.ndim == 0 else value
