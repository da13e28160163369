"""The loss of the embedded diffusion models: the error of the velocity (Salimans & Ho 2022)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..diffusion.noise import mixed_noise
from ..families.embedded import loading as embedded

SCHEDULE = embedded.noise_schedule()


def velocity_error(
    network, x0: Tensor, noise: Tensor, steps: Tensor, start: Tensor | None = None
) -> Tensor:
    """Error [b, ...] of the velocity that ``network(x_t, t)`` predicts at steps [b].

    start: noised in place of x0 to make x_t; the target is still the velocity from x_t to x0.
    """
    if start is not None:
        signal, spread = SCHEDULE.signal_and_spread(steps, x0)
        noise = noise + signal * (start - x0) / spread
    x_t = SCHEDULE.add_noise(x0, noise, steps)
    return network(x_t, steps).float() - SCHEDULE.velocity(x0, noise, steps)


def draw_steps(
    count: int, generator: torch.Generator, device: torch.device, noisy: float = 0.0
) -> Tensor:
    """Steps [count] of the forward process, stratified over the batch: uniform, or with ``noisy`` >
    0 of density proportional to (1 - t) ** (-noisy / (1 + noisy)), which favours late steps."""
    offset = torch.rand((), generator=generator, device=device)
    spread = (torch.arange(count, device=device) + offset) / count
    spread = 1 - (1 - spread) ** (1 + noisy)
    return (spread * SCHEDULE.steps).long().clamp_max(SCHEDULE.steps - 1)


def normal_like(x: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)


def video_noise(x0: Tensor, generator: torch.Generator, shared: float) -> Tensor:
    """Noise for videos [b t c h w]; shared: strength of the part common to all frames of a video,
    alpha of PYoCo's mixed noise."""
    noise = normal_like(x0, generator)
    return mixed_noise(noise, normal_like(x0[:, :1], generator), shared) if shared else noise
