"""From a network's prediction to `denoiser(x, sigma) -> denoised`, all that samplers know.

A denoiser gets x = x_0 + sigma n (variance exploding, VE) and answers with its estimate of x_0.
A network gets x / sqrt(1 + sigma^2) (variance preserving, VP) with a timestep, and predicts the
noise (eps), the velocity (v) or x_0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor

from .schedules import NoiseSchedule

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""denoiser(x [b ...], sigma [] or [b] or [b t]) -> denoised [b ...]."""

Network = Callable[[Tensor, Tensor], Tensor]
"""network(x_vp [b ...], timestep [b] or [b t], float32) -> prediction [b ...]."""

Prediction = Literal["eps", "v", "x0"]


def broadcast(value: Tensor, x: Tensor) -> Tensor:
    """value [], [b] or [b t] with x's rank, device and dtype: axes are appended on the right."""
    return value.to(x).reshape(value.shape + (1,) * (x.ndim - value.ndim))


# --------------------------------------------------------------------------------------------------
# Change of variables between the VP and the VE form. Both are the identity at sigma = 0.


def to_vp(x: Tensor, sigma: Tensor) -> Tensor:
    """x_vp = x / sqrt(1 + sigma^2)."""
    return x * broadcast((sigma**2 + 1).rsqrt(), x)


def to_ve(x_vp: Tensor, sigma: Tensor) -> Tensor:
    """x = x_vp sqrt(1 + sigma^2): of noise, at the first sigma, what a VP sampler starts from."""
    return x_vp * broadcast((sigma**2 + 1).sqrt(), x_vp)


# --------------------------------------------------------------------------------------------------
# Conversions between predictions, all in the VP form x = a x_0 + s eps, v = a eps - s x_0,
# with a = 1 / sqrt(1 + sigma^2) and s = sigma / sqrt(1 + sigma^2).


def x0_from_eps(x_vp: Tensor, eps: Tensor, sigma: Tensor) -> Tensor:
    a, s = _signal_and_spread(sigma, x_vp)
    return (x_vp - s * eps) / a


def x0_from_v(x_vp: Tensor, v: Tensor, sigma: Tensor) -> Tensor:
    a, s = _signal_and_spread(sigma, x_vp)
    return a * x_vp - s * v


def eps_from_v(x_vp: Tensor, v: Tensor, sigma: Tensor) -> Tensor:
    a, s = _signal_and_spread(sigma, x_vp)
    return s * x_vp + a * v


def eps_from_x0(x_vp: Tensor, x0: Tensor, sigma: Tensor) -> Tensor:
    a, s = _signal_and_spread(sigma, x_vp)
    return (x_vp - a * x0) / s


def v_from_eps(x_vp: Tensor, eps: Tensor, sigma: Tensor) -> Tensor:
    a, s = _signal_and_spread(sigma, x_vp)
    return (eps - s * x_vp) / a


def v_from_x0(x_vp: Tensor, x0: Tensor, sigma: Tensor) -> Tensor:
    a, s = _signal_and_spread(sigma, x_vp)
    return (a * x_vp - x0) / s


def _signal_and_spread(sigma: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    a = (sigma**2 + 1).rsqrt()
    return broadcast(a, x), broadcast(sigma * a, x)


# --------------------------------------------------------------------------------------------------
# Denoisers.


def eps_denoiser(network: Network, schedule: NoiseSchedule) -> Denoiser:
    """x_0 = x - sigma eps."""

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        eps = network(to_vp(x, sigma), _timestep(schedule, x, sigma))
        return x - broadcast(sigma, x) * eps

    return denoise


def v_denoiser(network: Network, schedule: NoiseSchedule) -> Denoiser:
    """x_0 = x / (sigma^2 + 1) - v sigma / sqrt(sigma^2 + 1)."""

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        x_vp = to_vp(x, sigma)
        return x0_from_v(x_vp, network(x_vp, _timestep(schedule, x, sigma)), sigma)

    return denoise


def x0_denoiser(network: Network, schedule: NoiseSchedule) -> Denoiser:
    """The network's answer is the denoised sample."""

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return network(to_vp(x, sigma), _timestep(schedule, x, sigma))

    return denoise


def edm_v_denoiser(network: Network) -> Denoiser:
    """Stable Video Diffusion: v over continuous sigma, which the network sees as ln(sigma) / 4."""

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        x_vp = to_vp(x, sigma)
        c_noise = 0.25 * sigma.log()
        return x0_from_v(x_vp, network(x_vp, _per_sample(c_noise, x)), sigma)

    return denoise


DENOISERS: dict[str, Callable[[Network, NoiseSchedule], Denoiser]] = {
    "eps": eps_denoiser,
    "v": v_denoiser,
    "x0": x0_denoiser,
}


def denoiser_for(prediction: Prediction, network: Network, schedule: NoiseSchedule) -> Denoiser:
    """The denoiser of a network that was trained to predict `prediction`."""
    if prediction not in DENOISERS:
        raise ValueError(f"Unknown prediction {prediction!r}; known are {', '.join(DENOISERS)}.")
    return DENOISERS[prediction](network, schedule)


def _timestep(schedule: NoiseSchedule, x: Tensor, sigma: Tensor) -> Tensor:
    return _per_sample(schedule.timestep(sigma), x)


def _per_sample(value: Tensor, x: Tensor) -> Tensor:
    """[] -> [b]; [b] and [b t] stay as they are. Float32, on x's device."""
    value = value.float().to(x.device)
    return value.expand(x.shape[0]) if value.ndim == 0 else value
