"""FreeInit (Wu et al. 2023): resample a video from noise whose low frequencies, in time and space,
come from the previous sample.

In training even the noisiest frames keep a trace of the video in their low frequencies, which
temporal layers learn to rely on; pure noise lacks it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .denoiser import Denoiser, to_ve
from .noise import StepNoise
from .samplers import Callback

AXES = (1, 3, 4)
"""Time, height and width of [b t c h w]: the axes of the Fourier transform."""


def _gaussian(d: Tensor, cutoff: float, order: int) -> Tensor:
    return torch.exp(-(d**2) / (2 * cutoff**2))


def _butterworth(d: Tensor, cutoff: float, order: int) -> Tensor:
    return 1 / (1 + (d / cutoff) ** (2 * order))


def _ideal(d: Tensor, cutoff: float, order: int) -> Tensor:
    return (d <= cutoff).to(d)


FILTERS: dict[str, Callable[[Tensor, float, int], Tensor]] = {
    "butterworth": _butterworth,
    "gaussian": _gaussian,
    "ideal": _ideal,
}


class FreshNoise(NamedTuple):
    """The randomness of iterations k = 1, 2, ... (after the first): noise(k, x) is new noise like
    x for the high frequencies, steps(k) the step noise of a stochastic sampler."""

    noise: Callable[[int, Tensor], Tensor]
    steps: Callable[[int], StepNoise | None]


@dataclass(frozen=True, kw_only=True)
class FreeInit:
    """Number of iterations, and the low-pass filter between them.

    iterations: total number of samplings, at least 1. filter: a name in :data:`FILTERS`. spatial,
    temporal: cutoffs d_s and d_t as fractions of the highest frequency; if either is 0, no
    frequency is kept. order: of the Butterworth filter, at least 1. Raises ValueError for others.
    """

    iterations: int = 3
    filter: str = "butterworth"
    spatial: float = 0.25
    temporal: float = 0.25
    order: int = 4

    def __post_init__(self) -> None:
        if self.iterations < 1 or self.order < 1:
            raise ValueError(
                f"FreeInit needs at least 1 iteration and order 1, got {self.iterations} and "
                f"{self.order}."
            )
        if self.filter not in FILTERS:
            raise ValueError(f"Unknown filter {self.filter!r}; known are {', '.join(FILTERS)}.")
        if min(self.spatial, self.temporal) < 0:
            raise ValueError(
                f"FreeInit's cutoffs must not be below 0, got {self.spatial} and {self.temporal}."
            )

    def low_pass(self, frames: int, height: int, width: int) -> Tensor:
        """The filter H [t h w] in torch.fft's order: 1 passes, 0 blocks.

        Frequencies are normalised to [-1, 1], with 0 the constant component for even and odd
        lengths alike.
        """
        if not self.spatial or not self.temporal:
            return torch.zeros(frames, height, width)
        t, h, w = (2 * torch.fft.fftfreq(length) for length in (frames, height, width))
        in_time = t * self.spatial / self.temporal
        d = (in_time[:, None, None] ** 2 + h[:, None] ** 2 + w**2).sqrt()
        return FILTERS[self.filter](d, self.spatial, self.order)

    def mixed(self, low: Tensor, high: Tensor) -> Tensor:
        """F^-1(H F(low) + (1 - H) F(high)) of [b t c h w], over time, height and width."""
        frames, height, width = (low.shape[axis] for axis in AXES)
        passes = self.low_pass(frames, height, width)[:, None].to(low.device)
        z, eta = (torch.fft.fftn(one.float(), dim=AXES) for one in (low, high))
        return torch.fft.ifftn(passes * z + (1 - passes) * eta, dim=AXES).real.to(low)


def next_noise(
    settings: FreeInit, video: Tensor, noise: Tensor, fresh: Tensor, sigma: Tensor
) -> Tensor:
    """The noise [b t c h w], at standard normal scale, that the next iteration starts from.

    video: the previous iteration's sample. noise: the first iteration's initial noise, with which
    every iteration's sample is diffused again. fresh: new noise, for the high frequencies.
    """
    # z_T = sqrt(abar_T) z_0 + sqrt(1 - abar_T) eps.
    scale = (1 + sigma.to(video) ** 2).rsqrt()
    z = scale * (video + sigma.to(video) * noise)
    return settings.mixed(z, fresh)


def free_init(
    sampler: Callable[..., Tensor], settings: FreeInit, fresh: FreshNoise | None = None
) -> Callable[..., Tensor]:
    """A sampler that runs `sampler` repeatedly; its x must be pure noise at sigmas[0].

    fresh: the later iterations' randomness; None takes it from the sampler's own step noise, at
    step numbers after those of the first iteration.
    """

    def sample(
        denoiser: Denoiser,
        x: Tensor,
        sigmas: Tensor,
        *,
        noise: StepNoise | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        source = fresh or _later_steps(noise, len(sigmas))
        first = x / to_ve(torch.ones_like(sigmas[0]), sigmas[0]).to(x)
        for k in range(settings.iterations):
            step_noise = source.steps(k) if k else noise
            report = _reporting(callback, k, settings.iterations)
            video = sampler(denoiser, x, sigmas, noise=step_noise, callback=report)
            if k + 1 < settings.iterations:
                start = next_noise(settings, video, first, source.noise(k + 1, x), sigmas[0])
                x = to_ve(start, sigmas[0])
        return video

    return sample


def _later_steps(noise: StepNoise | None, count: int) -> FreshNoise:
    """Randomness of later iterations: `count` further step numbers of `noise` for each."""
    if noise is None:
        raise ValueError("FreeInit needs new noise for every iteration, but no noise was given.")
    return FreshNoise(
        noise=lambda k, x: noise(k * count, x),
        steps=lambda k: lambda step, x: noise(k * count + 1 + step, x),
    )


def _reporting(callback: Callback | None, k: int, iterations: int) -> Callback | None:
    """The callback for iteration k, counting steps over all iterations."""
    if callback is None:
        return None

    def report(step) -> None:
        done = k * step.total + step.index
        callback(step._replace(index=done, total=iterations * step.total))

    return report
