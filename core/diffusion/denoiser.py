"""The interface of samplers, `denoiser(x, sigma) -> denoised`, and the two forms of noisy samples.

A denoiser takes x = x_0 + sigma n (variance exploding, VE) and returns its estimate of x_0. Most
networks take x / sqrt(1 + sigma^2) (variance preserving, VP) and predict the noise (eps), the
velocity (v) or x_0; :mod:`.preconditioning` turns them into denoisers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""denoiser(x [b ...], sigma [] or [b] or [b t]) -> denoised [b ...]."""

Prediction = Literal["eps", "v", "x0"]


def broadcast(value: Tensor, x: Tensor) -> Tensor:
    """value [], [b] or [b t] with x's device and dtype, and trailing axes up to x's rank."""
    return value.to(x).reshape(value.shape + (1,) * (x.ndim - value.ndim))


# --------------------------------------------------------------------------------------------------
# Change of variables between the VP and the VE form. Both are the identity at sigma = 0.


def to_vp(x: Tensor, sigma: Tensor) -> Tensor:
    """x_vp = x / sqrt(1 + sigma^2)."""
    return x * broadcast((sigma**2 + 1).rsqrt(), x)


def to_ve(x_vp: Tensor, sigma: Tensor) -> Tensor:
    """x = x_vp sqrt(1 + sigma^2). VP samplers start from to_ve(noise, sigmas[0])."""
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


def eps_from_x0(x_vp: Tensor, x0: Tensor, sigma: Tensor) -> Tensor:
    a, s = _signal_and_spread(sigma, x_vp)
    return (x_vp - a * x0) / s


def v_from_x0(x_vp: Tensor, x0: Tensor, sigma: Tensor) -> Tensor:
    a, s = _signal_and_spread(sigma, x_vp)
    return (a * x_vp - x0) / s


def _signal_and_spread(sigma: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    a = (sigma**2 + 1).rsqrt()
    return broadcast(a, x), broadcast(sigma * a, x)
