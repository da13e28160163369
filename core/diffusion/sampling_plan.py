"""A sampler together with the noise levels that it takes, as a family published them."""

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
    """What to sample a model with where its user does not say.

    most_steps, most_cfg: of models that were distilled to a few steps; beyond them videos get
    worse. None for others.
    """

    sampler: str
    steps: int
    cfg: float
    most_steps: int | None = None
    most_cfg: float | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A sampler with its noise levels, and the schedule that gives the network its timesteps.

    whole_variance: what sampling starts from has the variance 1 + sigma^2 of noised samples of unit
    variance; the Euler sampler of discrete schedules starts from sigma^2.
    """

    schedule: NoiseSchedule | NoiseRange
    sampler: Callable[..., Tensor]
    sigmas: Tensor
    whole_variance: bool = False

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
        alone = self.sampler is sample_euler and not self.whole_variance
        x = first.to(noise) * noise if alone else to_ve(noise, first)
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
        """:meth:`run` as a sampler for tasks that bring x in the VE form of pure noise."""
        return self.run(denoiser, to_vp(x, sigmas[0]), step_noise=noise, callback=callback)
