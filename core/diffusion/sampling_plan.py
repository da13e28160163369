"""A sampler together with its noise levels, as published with a model family."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from .denoiser import Denoiser, to_ve, to_vp
from .noise import StepNoise
from .samplers import Callback, sample_euler
from .schedules import NoiseRange, NoiseSchedule


@dataclass(frozen=True, kw_only=True)
class UsualSettings:
    """A model's default sampling settings.

    max_steps, max_cfg: limits of models distilled to a few steps, above which videos get worse;
    None for other models.
    """

    sampler: str
    steps: int
    cfg: float
    max_steps: int | None = None
    max_cfg: float | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A sampler with its noise levels, and the schedule that maps them to the network's timesteps.

    signal_variance: start from variance 1 + sigma^2, as of a noised sample of unit variance. Every
    sampler but Euler does so anyway; Euler otherwise starts from variance sigma^2.
    """

    schedule: NoiseSchedule | NoiseRange
    sampler: Callable[..., Tensor]
    sigmas: Tensor
    signal_variance: bool = False

    def run(
        self,
        denoiser: Denoiser,
        noise: Tensor,
        *,
        step_noise: StepNoise | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """Latents from standard normal `noise` of their shape."""
        first = self.sigmas[0]
        noise_only = self.sampler is sample_euler and not self.signal_variance
        x = first.to(noise) * noise if noise_only else to_ve(noise, first)
        x = self.sampler(denoiser, x, self.sigmas, noise=step_noise, callback=callback)
        return to_vp(x, self.sigmas[-1])

    def sample(
        self,
        denoiser: Denoiser,
        x: Tensor,
        sigmas: Tensor,
        *,
        noise: StepNoise | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """:meth:`run` with the interface of a sampler; x is pure noise in VE form. The plan's own
        sigmas are used, `sigmas` only gives the level of x."""
        return self.run(denoiser, to_vp(x, sigmas[0]), step_noise=noise, callback=callback)
