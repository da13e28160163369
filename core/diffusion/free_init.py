"""FreeInit (Wu et al. 2023): a video is sampled again from noise whose low frequencies, in time and
space, are those of the video that was made before.

Training never saw noise without a trace of the video; what remains of it in the low frequencies is
what temporal layers learnt to hold on to.
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
"""Time, height and width of [b t c h w]."""


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


class Fresh(NamedTuple):
    """The randomness of the samplings after the first, k = 1, 2, ...: noise(k, x) like x, and what
    a stochastic sampler asks for while it makes the k-th."""

    noise: Callable[[int, Tensor], Tensor]
    steps: Callable[[int], StepNoise | None]


@dataclass(frozen=True, kw_only=True)
class FreeInit:
    """How often a video is sampled, and which frequencies it hands on.

    iterations: samplings in all. spatial, temporal: cutoffs d_s and d_t, in parts of the highest
    frequency; 0 hands on nothing. order: of the Butterworth filter. Raises ValueError for numbers
    out of these ranges.
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
        """H [t h w] in the order of torch.fft: 1 passes, 0 does not.

        The normalised frequencies lie in -1 .. 1 and are 0 for what is constant, for even and odd
        lengths alike.
        """
        if not self.spatial or not self.temporal:
            return torch.zeros(frames, height, width)
        t, h, w = (2 * torch.fft.fftfreq(length) for length in (frames, height, width))
        in_time = t * self.spatial / self.temporal
        d = (in_time[:, None, None] ** 2 + h[:, None] ** 2 + w**2).sqrt()
        return FILTERS[self.filter](d, self.spatial, self.order)

    def mixed(self, low: Tensor, high: Tensor) -> Tensor:
        """F^-1(H F(low) + (1 - H) F(high)) of [b t c h w], by the axes of time and space."""
        frames, height, width = (low.shape[axis] for axis in AXES)
        passes = self.low_pass(frames, height, width)[:, None].to(low.device)
        z, eta = (torch.fft.fftn(one.float(), dim=AXES) for one in (low, high))
        return torch.fft.ifftn(passes * z + (1 - passes) * eta, dim=AXES).real.to(low)


def noise_again(how: FreeInit, made: Tensor, noise: Tensor, fresh: Tensor, sigma: Tensor) -> Tensor:
    """The noise [b t c h w], standard normal before, that the next sampling starts from.

    made: the video of the sampling before. noise: that of the very first one, which diffuses every
    video again. fresh: new noise, for the high frequencies.
    """
    # z_T = sqrt(abar_T) z_0 + sqrt(1 - abar_T) eps.
    scale = (1 + sigma.to(made) ** 2).rsqrt()
    z = scale * (made + sigma.to(made) * noise)
    return how.mixed(z, fresh)


def free_init(
    sampler: Callable[..., Tensor], how: FreeInit, fresh: Fresh | None = None
) -> Callable[..., Tensor]:
    """A sampler that samples `how.iterations` times, to be given pure noise at the first level.

    fresh: where its noise comes from; None takes the steps of the sampler's own noise that come
    after those of the first sampling.
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
        for k in range(how.iterations):
            given = source.steps(k) if k else noise
            report = _reporting(callback, k, how.iterations)
            made = sampler(denoiser, x, sigmas, noise=given, callback=report)
            if k + 1 < how.iterations:
                start = noise_again(how, made, first, source.noise(k + 1, x), sigmas[0])
                x = to_ve(start, sigmas[0])
        return made

    return sample


def _later_steps(noise: StepNoise | None, count: int) -> Fresh:
    """Noise of further samplings from the step numbers behind those of the first."""
    if noise is None:
        raise ValueError("FreeInit needs new noise for every iteration, but 0 sources were given.")
    return Fresh(
        noise=lambda k, x: noise(k * count, x),
        steps=lambda k: lambda step, x: noise(k * count + 1 + step, x),
    )


def _reporting(callback: Callback | None, k: int, iterations: int) -> Callback | None:
    """The callback of all samplings together, for the k-th of them."""
    if callback is None:
        return None

    def report(step) -> None:
        done = k * step.total + step.index
        callback(step._replace(index=done, total=iterations * step.total))

    return report
