"""Sampling of LVDM and VideoCrafter: noise levels, DDIM, and their forms of guidance."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from ..diffusion.denoiser import Denoiser
from ..diffusion.noise import StepNoise
from ..diffusion.samplers import Callback, Step, sample_euler_ancestral
from ..diffusion.sampling_plan import Plan
from ..diffusion.schedules import NoiseSchedule, get_sigmas_strided

GUIDANCE: dict[str, Callable[[float], float]] = {
    "usual": lambda scale: scale,
    "cfg_original": lambda scale: 1 + scale,
    "cfg_ours": lambda scale: 1 - scale,
}
"""The originals' forms of guidance by their names in the scripts; each maps its scale to s in

    uncond + s (cond - uncond)

The last two are cond + scale (cond - uncond) and cond + scale (uncond - cond). The scripts turn
guidance off at scale 1, which is right only for the usual form; here it stays on."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ScaledSignalSchedule(NoiseSchedule):
    """x_t = scale_t sqrt(abar_t) x_0 + sqrt(1 - abar_t) n: the signal fades faster than usual.

    signal_scales: [N] scale_t, which must not grow with t.
    """

    signal_scales: Tensor

    @cached_property
    def sigmas(self) -> Tensor:
        """[N] float64, ascending: noise over the scaled signal."""
        return super().sigmas / self.signal_scales.double()

    def input_scale(self, sigma: Tensor) -> Tensor:
        low = self.timestep(sigma).double()
        scales = self.signal_scales.double()
        first = low.floor().long().clamp(max=self.steps - 2)
        scale = torch.lerp(scales[first], scales[first + 1], low - first).to(sigma)
        return scale * ((scale * sigma) ** 2 + 1).rsqrt()

    def signal_and_spread(self, timesteps: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        signal, spread = super().signal_and_spread(timesteps, x)
        scale = self.signal_scales[timesteps.cpu()].to(x)
        return signal * scale.reshape(signal.shape), spread


def unscaled_sigmas(schedule: NoiseSchedule, sigmas: Tensor) -> Tensor:
    """Noise over the unscaled signal, sqrt((1 - abar) / abar), for sigmas of the schedule."""
    seen = sigmas * schedule.input_scale(sigmas)  # sqrt(1 - abar) of what the network sees
    return seen / (1 - seen**2).sqrt()


@dataclass(frozen=True, kw_only=True)
class DdimPlan(Plan):
    """The originals' DDIM, see :func:`sample_ddim_at`."""

    eta: float = 1.0

    def run(
        self,
        denoiser: Denoiser,
        noise: Tensor,
        *,
        step_noise: StepNoise | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        options = dict(eta=self.eta, step_noise=step_noise, callback=callback)
        return sample_ddim_at(denoiser, noise, self.schedule, self.sigmas, **options)


def ddim_plan(schedule: NoiseSchedule, steps: int, eta: float = 1.0) -> DdimPlan:
    """The originals' DDIM as a plan."""
    sigmas = get_sigmas_strided(schedule, steps, end_on_first=True)
    return DdimPlan(schedule=schedule, sampler=sample_euler_ancestral, sigmas=sigmas, eta=eta)


def sample_ddim(
    denoiser: Denoiser,
    noise: Tensor,
    schedule: NoiseSchedule,
    steps: int,
    *,
    eta: float = 1.0,
    step_noise: StepNoise | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Latents, in the schedule's variance-preserving scaling, from standard normal `noise`.

    The timesteps are 1, 1 + c, 1 + 2c, ... with c = N // steps: more than `steps` if that does not
    divide N. The last step ends at timestep 0, which still has some noise.
    """
    sigmas = get_sigmas_strided(schedule, steps, end_on_first=True)
    options = dict(eta=eta, step_noise=step_noise, callback=callback)
    return sample_ddim_at(denoiser, noise, schedule, sigmas, **options)


@torch.no_grad()
def sample_ddim_at(
    denoiser: Denoiser,
    noise: Tensor,
    schedule: NoiseSchedule,
    sigmas: Tensor,
    *,
    eta: float = 1.0,
    step_noise: StepNoise | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """The same at these sigmas [steps + 1] of the schedule.

    step_noise: added if eta > 0, by an amount that follows from the noise levels of the unscaled
    signal.
    """
    plain = unscaled_sigmas(schedule, sigmas.double()).tolist()
    x = noise / schedule.input_scale(sigmas[0]).to(noise)
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas.double().tolist())):
        denoised = denoiser(x, sigmas[i])
        if callback is not None:
            callback(Step(i, len(sigmas) - 1, sigma, x, denoised))
        up = eta * sigma_next * math.sqrt(1 - (plain[i + 1] / plain[i]) ** 2)
        down = math.sqrt(sigma_next**2 - up**2)
        x = denoised + down / sigma * (x - denoised)
        if up > 0:
            if step_noise is None:
                raise ValueError(f"Step {i} adds noise of level {up:.4g}, but no noise was given.")
            x = x + up * step_noise(i, x)
    return x * schedule.input_scale(sigmas[-1]).to(noise)
