"""Sampling of LaVie's own scripts: noise levels, guidance and key frames.

Everything is expressed as sigmas and a denoiser for the common samplers. Latents are
variance-preserving, [b t c h w].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ..diffusion.denoiser import Denoiser
from ..diffusion.guidance import guided
from ..diffusion.noise import StepNoise
from ..diffusion.samplers import Callback, sample_ddim, sample_ddpm, sample_euler
from ..diffusion.sampling_plan import Plan, UsualSettings
from ..diffusion.schedules import (
    NoiseSchedule,
    get_sigmas_at,
    get_sigmas_leading,
    get_sigmas_normal,
    linear,
)
from ..networks.diffusion_model import DiffusionModel
from ..networks.video_shape import check_video
from ..tasks.keyframe_conditioning import interpolating_denoiser
from ..tasks.segment import SegmentCondition, conditions_of

Method = Literal["ddpm", "ddim", "euler", "respaced_ddim"]
METHODS: tuple[Method, ...] = ("ddpm", "ddim", "euler", "respaced_ddim")


# --------------------------------------------------------------------------------------------------
# Noise levels.


class SigmaLinearSchedule(NoiseSchedule):
    """A schedule that interpolates sigma, not log sigma, linearly between table entries: this
    changes fractional timesteps, which the network reads."""

    def timestep(self, sigma: Tensor) -> Tensor:
        table = self.sigmas
        sigma = sigma.detach().cpu().double().clamp(table[0], table[-1])
        low = (torch.searchsorted(table, sigma, right=True) - 1).clamp(0, self.steps - 2)
        t = low + (sigma - table[low]) / (table[low + 1] - table[low])
        return torch.where((t - t.round()).abs() < 1e-3, t.round(), t).float()

    def sigma(self, timestep: Tensor) -> Tensor:
        t = timestep.detach().cpu().double().clamp(0, self.steps - 1)
        low = t.floor().long().clamp(max=self.steps - 2)
        return torch.lerp(self.sigmas[low], self.sigmas[low + 1], t - low)


def respaced_timesteps(steps: int, total: int = 1000) -> Tensor:
    """[steps] from total - 1 to 0, both included: round(k (total - 1) / (steps - 1)); 1 step: 0.

    Like the original, this accumulates the spacing instead of multiplying. The results differ, by
    1, only where a position is exactly halfway between integers, as at k = 10 of 21 steps: 499, not
    500.
    """
    if not 1 <= steps <= total:
        raise ValueError(f"The number of steps must be between 1 and {total}, got {steps}.")
    if steps == 1:
        return torch.zeros(1, dtype=torch.int64)
    position, found = 0.0, []
    for _ in range(steps):
        found.append(round(position))
        position += (total - 1) / (steps - 1)
    return torch.tensor(found[::-1])


def plan(method: Method, steps: int) -> Plan:
    """The noise levels of a method; betas are linear.

    With 50 steps, ddpm visits timesteps 980 ... 0; ddim 981 ... 1, ending at abar_0; euler
    fractional timesteps 999 ... 0; respaced_ddim integers 999 ... 0, ending at abar = 1.
    """
    schedule = linear()
    if method == "ddpm":
        sigmas = get_sigmas_leading(schedule, steps, offset=0)
        return Plan(schedule=schedule, sampler=sample_ddpm, sigmas=sigmas)
    if method == "ddim":
        sigmas = get_sigmas_leading(schedule, steps, offset=1, end_on_first=True)
        return Plan(schedule=schedule, sampler=sample_ddim, sigmas=sigmas)
    if method == "euler":
        schedule = SigmaLinearSchedule(schedule.alphas_cumprod)
        sigmas = get_sigmas_normal(schedule, steps)
        return Plan(schedule=schedule, sampler=sample_euler, sigmas=sigmas)
    if method == "respaced_ddim":
        sigmas = get_sigmas_at(schedule, respaced_timesteps(steps))
        return Plan(schedule=schedule, sampler=sample_ddim, sigmas=sigmas)
    raise ValueError(f"Unknown method {method!r}; known are {', '.join(METHODS)}.")


@dataclass(frozen=True, kw_only=True)
class Published:
    """The settings of one of the original's scripts."""

    method: Method
    steps: int = 50
    scale: float
    negative: str
    fps: int
    seed: int | None = None
    frames: int
    noise_level: int = 0


METHOD_OF_SAMPLER: dict[str, dict[str, Method]] = {
    "lavie base": {"ddpm": "ddpm", "ddim": "ddim", "euler": "euler"},
    "lavie interpolation": {"ddim": "respaced_ddim"},
    "lavie vsr": {"ddim": "ddim"},
}
"""By the family of the temporal layers, then by the sampler's common name."""


def published_plan(family: str, sampler: str, steps: int) -> Plan:
    """The original's noise levels; ValueError for a sampler that it was not published with."""
    methods = METHOD_OF_SAMPLER.get(family)
    if methods is None:
        known = ", ".join(METHOD_OF_SAMPLER)
        raise ValueError(f"published settings are known for {known}, not for {family!r}")
    if sampler not in methods:
        raise ValueError(f"{family} was published with {' or '.join(methods)}, not with {sampler}")
    return plan(methods[sampler], steps)


def usual_settings(family: str) -> UsualSettings | None:
    """The original's settings for the base model; None for the others, which are stages of their
    own."""
    if family != "lavie base":
        return None
    base = PUBLISHED["base"]
    return UsualSettings(sampler=base.method, steps=base.steps, cfg=base.scale)


PUBLISHED: dict[str, Published] = {
    "base": Published(method="ddpm", scale=7.5, negative="", fps=8, frames=16),
    "interpolation": Published(
        method="respaced_ddim", scale=4.0, negative="None", fps=24, seed=3418, frames=61
    ),
    "vsr": Published(
        method="ddim", scale=5.0, negative="blur, worst quality", fps=8, seed=10, frames=8,
        noise_level=50,
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """Text embeddings [b n d]; with `negative`, classifier-free guidance at `scale`."""

    text: Tensor
    negative: Tensor | None = None
    scale: float = 1.0

    def denoiser(
        self, model: DiffusionModel, condition: SegmentCondition, *, any_scale: bool = False
    ) -> Denoiser:
        """negative + scale (text - negative).

        As in the scripts, guidance acts only above scale 1 (base and super-resolution), or with
        `any_scale` at all scales but 1 (interpolation).
        """
        ids = model.network.spec.ids
        cond = model.denoiser(conditions_of(condition, ids, self.text))
        off = self.scale == 1 if any_scale else self.scale <= 1
        if self.negative is None or off:
            return cond
        uncond = model.denoiser(conditions_of(condition, ids, self.negative))
        return guided(cond, uncond, self.scale)


# --------------------------------------------------------------------------------------------------
# Text to video.


def text_to_video(
    model: DiffusionModel,
    prompts: Prompts,
    noise: Tensor,
    *,
    method: Method = "ddpm",
    steps: int = 50,
    step_noise: StepNoise | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Latents of a video from standard normal `noise` of their shape.

    step_noise: added by ddpm after every step but the last.
    """
    check_video(noise, model.latent_channels)
    published = plan(method, steps)
    condition = SegmentCondition(frames=range(noise.shape[1]))
    denoiser = prompts.denoiser(model.with_schedule(published.schedule), condition)
    return published.run(denoiser, noise, step_noise=step_noise, callback=callback)


# --------------------------------------------------------------------------------------------------
# Temporal interpolation.


def stretched_frames(length: int, frames: int = 61) -> list[int]:
    """Indices that stretch a video of `length` to `frames` evenly spaced ones, rounded down."""
    if length < 1 or frames < 2:
        raise ValueError(
            f"Expected 1 frame or more to stretch to 2 or more, got {length} and {frames}."
        )
    step = (length - 1) / (frames - 1)
    return [int(k * step) for k in range(frames - 1)] + [length - 1]


class KeyWindows(NamedTuple):
    """Frames per window of a long interpolation, and frames shared by neighbouring windows.

    Both are 1 more than a multiple of 4, the spacing of key frames, so that windows start at one.
    """

    frames: int = 61
    overlap: int = 13


def interpolate(
    model: DiffusionModel,
    condition: Tensor,
    prompts: Prompts,
    noise: Tensor,
    *,
    steps: int = 50,
    windows: KeyWindows = KeyWindows(),  # noqa: B008 (immutable)
    callback: Callback | None = None,
) -> Tensor:
    """Latents of all frames; key frames are regenerated like the others.

    condition: from `keyframe_conditioning`'s `copied_keys` or `masked_latents`, as long as `noise`.
    windows: see `interpolating_denoiser` there.
    """
    check_video(noise, model.latent_channels)
    published = plan("respaced_ddim", steps)
    model = model.with_schedule(published.schedule)
    if condition.shape[1] != noise.shape[1]:
        raise ValueError(f"{condition.shape[1]} conditions but {noise.shape[1]} frames of noise.")
    denoiser = interpolating_denoiser(
        lambda window: prompts.denoiser(model, window, any_scale=True),
        condition,
        window=windows.frames,
        overlap=windows.overlap,
    )
    return published.run(denoiser, noise, callback=callback)
