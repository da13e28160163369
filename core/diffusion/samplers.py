"""Samplers: pure functions of a denoiser, a noisy tensor and a decreasing list of noise levels.

`sample_*(denoiser, x, sigmas, *, noise=None, callback=None)` returns x at the last sigma, where

    denoiser   denoiser(x, sigma) -> estimate of x_0
    x          in the variance exploding form x_0 + sigmas[0] n; pure noise is sigmas[0] n
    sigmas     [steps + 1], not increasing, usually ending in 0 (see schedules.py)
    noise      noise(step, x) -> standard normal like x; only stochastic samplers call it
    callback   receives a Step before each update; an exception from it ends the run

The axes of x have no meaning here, so images and videos are sampled alike. If the list ends above
0, noise is left in x, and `to_vp(x, sigmas[-1])` is the sample of a variance preserving process.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from .curves import StepAt, current_step
from .denoiser import Denoiser
from .noise import StepNoise


class Step(NamedTuple):
    """State within step `index` of `total`: x at noise level `sigma`, and its estimate of x_0."""

    index: int
    total: int
    sigma: float
    x: Tensor
    denoised: Tensor


Callback = Callable[[Step], None]


@torch.no_grad()
def sample_euler(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: StepNoise | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Euler steps of dx / dsigma = (x - D(x, sigma)) / sigma (Karras et al. 2022, eq. 1 and 3).

    Each step moves x along the straight line to `denoised`, in proportion to the fall of sigma.
    """
    for i, sigma, sigma_next in _steps(sigmas):
        denoised = denoiser(x, sigmas[i])
        _report(callback, i, sigmas, x, denoised)
        x = denoised + sigma_next / sigma * (x - denoised)
    return x


@torch.no_grad()
def sample_euler_ancestral(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: StepNoise | None = None,
    callback: Callback | None = None,
    eta: float = 1.0,
) -> Tensor:
    """An Euler step down to sigma_down, then fresh noise up to sigma_next."""
    for i, sigma, sigma_next in _steps(sigmas):
        denoised = denoiser(x, sigmas[i])
        _report(callback, i, sigmas, x, denoised)
        sigma_down, sigma_up = ancestral_step(sigma, sigma_next, eta)
        x = denoised + sigma_down / sigma * (x - denoised) + _noise(noise, i, x, sigma_up)
    return x


def ancestral_step(sigma: float, sigma_next: float, eta: float = 1.0) -> tuple[float, float]:
    """(sigma_down, sigma_up) with sigma_down^2 + sigma_up^2 = sigma_next^2; eta 0 adds no noise."""
    sigma_up = eta * sigma_next * math.sqrt(1 - (sigma_next / sigma) ** 2)
    sigma_up = min(sigma_up, sigma_next)
    return math.sqrt(sigma_next**2 - sigma_up**2), sigma_up


def sample_ddim(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: StepNoise | None = None,
    callback: Callback | None = None,
    eta: float = 0.0,
) -> Tensor:
    """DDIM (Song et al. 2021, eq. 12).

    Divided by sqrt(abar_prev), its step is x_0 + sqrt(sigma_next^2 - sigma_up^2) eps + sigma_up n
    with exactly the ancestral sigma_up: in VE form, DDIM is (ancestral) Euler.
    """
    return sample_euler_ancestral(denoiser, x, sigmas, noise=noise, callback=callback, eta=eta)


@torch.no_grad()
def sample_ddpm(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: StepNoise | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Ancestral sampling from the posterior q(x_{t-1} | x_t, x_0) (Ho et al. 2020, eq. 6-7).

    With r = (sigma_next / sigma)^2 the posterior of the variance exploding form has
    mean x_0 + r (x - x_0) and variance sigma_next^2 (1 - r).
    """
    for i, sigma, sigma_next in _steps(sigmas):
        denoised = denoiser(x, sigmas[i])
        _report(callback, i, sigmas, x, denoised)
        r = (sigma_next / sigma) ** 2
        mean = denoised + r * (x - denoised)
        x = mean + _noise(noise, i, x, sigma_next * math.sqrt(1 - r))
    return x


@torch.no_grad()
def sample_heun(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: StepNoise | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Heun's second-order steps, two evaluations each (Karras et al. 2022, algorithm 1)."""
    for i, sigma, sigma_next in _steps(sigmas):
        denoised = denoiser(x, sigmas[i])
        _report(callback, i, sigmas, x, denoised)
        d = (x - denoised) / sigma
        x_next = x + (sigma_next - sigma) * d
        if sigma_next > 0:
            d_next = (x_next - denoiser(x_next, sigmas[i + 1])) / sigma_next
            x_next = x + (sigma_next - sigma) * (d + d_next) / 2
        x = x_next
    return x


@torch.no_grad()
def sample_dpmpp_2m(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: StepNoise | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022b, algorithm 2): Euler towards an extrapolated x_0."""
    previous, h_last = None, 0.0
    for i, sigma, sigma_next in _steps(sigmas):
        denoised = denoiser(x, sigmas[i])
        _report(callback, i, sigmas, x, denoised)
        h = _log_snr_step(sigma, sigma_next)
        target = _extrapolate(denoised, previous, h, h_last)
        x = target + sigma_next / sigma * (x - target)
        previous, h_last = denoised, h
    return x


@torch.no_grad()
def sample_dpmpp_2m_sde(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: StepNoise | None = None,
    callback: Callback | None = None,
    eta: float = 1.0,
) -> Tensor:
    """SDE-DPM-Solver++(2M) in midpoint form (Lu et al. 2022b); eta 0 gives `sample_dpmpp_2m`."""
    previous, h_last = None, 0.0
    for i, sigma, sigma_next in _steps(sigmas):
        denoised = denoiser(x, sigmas[i])
        _report(callback, i, sigmas, x, denoised)
        h = _log_snr_step(sigma, sigma_next)
        target = _extrapolate(denoised, previous, h, h_last)
        shrink = (sigma_next / sigma) ** (1 + eta)
        sigma_up = sigma_next * math.sqrt(1 - (sigma_next / sigma) ** (2 * eta))
        x = target + shrink * (x - target) + _noise(noise, i, x, sigma_up)
        previous, h_last = denoised, h
    return x


@torch.no_grad()
def sample_dpmpp_3m_sde(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: StepNoise | None = None,
    callback: Callback | None = None,
    eta: float = 1.0,
) -> Tensor:
    """SDE-DPM-Solver++(3M): the exponential integrator of Lu et al. 2022b with slope and curvature
    from the last three estimates of x_0. The first step has neither, the second no curvature.
    """
    history: list[tuple[Tensor, float]] = []  # (denoised, h of the step from it), latest first
    for i, sigma, sigma_next in _steps(sigmas):
        denoised = denoiser(x, sigmas[i])
        _report(callback, i, sigmas, x, denoised)
        h = _log_snr_step(sigma, sigma_next)
        shrink = (sigma_next / sigma) ** (1 + eta)
        x = denoised + shrink * (x - denoised)
        if 0 < h < math.inf:
            decay = (1 + eta) * h
            phi_2 = math.expm1(-decay) / decay + 1
            phi_3 = phi_2 / decay - 0.5
            slope, curvature = _differences(denoised, history, h)
            x = x + phi_2 * slope - phi_3 * curvature
        x = x + _noise(noise, i, x, sigma_next * math.sqrt(1 - (sigma_next / sigma) ** (2 * eta)))
        history = [(denoised, h), *history][:2]
    return x


def _differences(
    denoised: Tensor, history: list[tuple[Tensor, float]], h: float
) -> tuple[Tensor | float, Tensor | float]:
    """Slope and curvature of x_0 at `denoised`, in units of h, from the last one or two estimates.

    0 where there are too few estimates, or where a step had h 0.
    """
    if not history or history[0][1] == 0:
        return 0.0, 0.0
    (previous, h_1), *older = history
    r_0 = h_1 / h
    slope = (denoised - previous) / r_0
    if not older or older[0][1] == 0:
        return slope, 0.0
    before, h_2 = older[0]
    r_1 = h_2 / h
    curvature = (slope - (previous - before) / r_1) / (r_0 + r_1)
    return slope + curvature * r_0, curvature


def _extrapolate(denoised: Tensor, previous: Tensor | None, h: float, h_last: float) -> Tensor:
    """x_0 half a step ahead, from the last two estimates; first order if h is 0 or infinite."""
    if previous is None or h == math.inf or min(h, h_last) == 0:
        return denoised
    return denoised + (denoised - previous) * h / (2 * h_last)


@torch.no_grad()
def sample_lcm(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: StepNoise | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Multistep consistency sampling (Luo et al. 2023, algorithm 3): each step noises the estimate
    of x_0 to the next level."""
    for i, _, sigma_next in _steps(sigmas):
        denoised = denoiser(x, sigmas[i])
        _report(callback, i, sigmas, x, denoised)
        x = denoised + _noise(noise, i, x, sigma_next)
    return x


@torch.no_grad()
def sample_unipc(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: StepNoise | None = None,
    callback: Callback | None = None,
    order: int = 2,
    variant: str = "bh2",
) -> Tensor:
    """UniPC (Zhao et al. 2023, data prediction): each evaluation also corrects the previous step.

    order: 1 to 3, lowered to 1 towards both ends of the list. variant: "bh1" or "bh2".
    """
    if order not in (1, 2, 3) or variant not in ("bh1", "bh2"):
        raise ValueError(f"UniPC has orders 1 to 3 and bh1 or bh2, got {order} and {variant!r}.")
    total = len(sigmas) - 1
    history: list[tuple[float, Tensor]] = []  # (sigma, denoised), latest first
    x_last, p = x, 1
    for i, sigma, sigma_next in _steps(sigmas):
        denoised = denoiser(x, sigmas[i])
        _report(callback, i, sigmas, x, denoised)
        if history and sigma < history[0][0]:
            x = _unipc_step(x_last, history[:p], sigma, variant, corrected_by=denoised)
        # A repeated level is kept once: there is no slope between the two.
        history = [(sigma, denoised), *(one for one in history if one[0] != sigma)][:order]
        p = min(order, i + 1, total - i, len(history))
        x_last = x
        x = denoised if sigma_next == 0 else _unipc_step(x, history[:p], sigma_next, variant)
    return x


def _unipc_step(
    x: Tensor,
    history: list[tuple[float, Tensor]],
    sigma_next: float,
    variant: str,
    corrected_by: Tensor | None = None,
) -> Tensor:
    """One UniP step from history[0] to sigma_next; UniC if `corrected_by`, the evaluation there,
    is given."""
    sigma, denoised = history[0]
    base = denoised + sigma_next / sigma * (x - denoised)
    h = _log_snr_step(sigma, sigma_next)
    if h == 0:
        return base
    # Divided differences to earlier evaluations (and the corrector's new one), at r = step / h.
    ratios = [-_log_snr_step(s, sigma) / h for s, _ in history[1:]]
    slopes = [(d - denoised) / r for (_, d), r in zip(history[1:], ratios, strict=True)]
    if corrected_by is not None:
        ratios, slopes = [*ratios, 1.0], [*slopes, corrected_by - denoised]
    scale = -h if variant == "bh1" else math.expm1(-h)
    for rho, slope in zip(_unipc_weights(ratios, h, scale), slopes, strict=True):
        base = base - scale * rho * slope
    return base


def _unipc_weights(ratios: list[float], h: float, scale: float) -> list[float]:
    """Solve R rho = b (Zhao et al. 2023, theorem 3.1), with phi_k(-h) by recursion."""
    if len(ratios) <= 1:
        return [0.5] * len(ratios)  # the paper's choice for one difference: independent of h
    phi, factorial, b = math.expm1(-h) / -h - 1, 1, []
    for k in range(1, len(ratios) + 1):
        b.append(phi * factorial / scale)
        factorial *= k + 1
        phi = phi / -h - 1 / factorial
    r = torch.tensor(ratios, dtype=torch.float64)
    powers = torch.stack([r**k for k in range(len(ratios))])
    return torch.linalg.solve(powers, torch.tensor(b, dtype=torch.float64)).tolist()


SAMPLERS: dict[str, Callable[..., Tensor]] = {
    "euler": sample_euler,
    "euler_ancestral": sample_euler_ancestral,
    "heun": sample_heun,
    "ddim": sample_ddim,
    "ddpm": sample_ddpm,
    "dpmpp_2m": sample_dpmpp_2m,
    "dpmpp_2m_sde": sample_dpmpp_2m_sde,
    "unipc": sample_unipc,
    "lcm": sample_lcm,
}


def _steps(sigmas: Tensor) -> Iterator[tuple[int, float, float]]:
    """(i, sigma_i, sigma_{i+1}) as Python floats, after one check of the whole list."""
    levels = sigmas.double().tolist()
    if len(levels) < 2 or min(levels[:-1]) <= 0 or levels[-1] < 0:
        raise ValueError(f"Sigmas must be 2 or more, all but the last positive, got {levels}.")
    if any(b > a for a, b in zip(levels, levels[1:], strict=False)):
        raise ValueError(f"Sigmas must not increase, got {levels}.")
    return _counted(levels)


def _counted(levels: list[float]) -> Iterator[tuple[int, float, float]]:
    """The steps, with `current_step` set during each for curves over steps."""
    before = current_step.get()
    try:
        for i, pair in enumerate(zip(levels, levels[1:], strict=False)):
            current_step.set(StepAt(i, len(levels) - 1))
            yield i, *pair
    finally:
        current_step.set(before)


def _log_snr_step(sigma: float, sigma_next: float) -> float:
    """h = lambda_next - lambda with lambda = -log sigma; infinite at the step to 0."""
    return math.log(sigma / sigma_next) if sigma_next > 0 else math.inf


def _noise(noise: StepNoise | None, step: int, x: Tensor, scale: float) -> Tensor | float:
    if scale == 0:
        return 0.0
    if noise is None:
        raise ValueError(f"Step {step} adds noise of level {scale:.4g}, but no noise was given.")
    return scale * noise(step, x)


def _report(callback: Callback | None, i: int, sigmas: Tensor, x: Tensor, denoised: Tensor) -> None:
    if callback is not None:
        callback(Step(i, len(sigmas) - 1, float(sigmas[i]), x, denoised))
