"""Noise levels that memory management cannot overwrite.

ComfyUI's dynamic memory backs up and restores a model's buffers by their paths, although another
object may have been patched in at a path since then: noise levels in buffers can so become those of
another run. Ours are plain attributes, and buffers of these names are ignored.
"""

from __future__ import annotations

import copy
import math
from functools import cache
from typing import Any

import comfy.model_sampling
import torch
from torch import Tensor, nn

from ....core.diffusion.denoiser import broadcast
from ....core.diffusion.schedules import NoiseRange, NoiseSchedule

LEVELS = ("sigmas", "log_sigmas")


class KeptLevels(nn.Module):
    """A mixin before a `ModelSamplingDiscrete`: its noise levels become plain attributes."""

    def set_sigmas(self, sigmas: Tensor) -> None:
        vars(self).update(sigmas=sigmas.float(), log_sigmas=sigmas.log().float())

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        if name not in LEVELS:
            super().register_buffer(name, tensor, persistent)


def with_schedule(sampling: Any, schedule: NoiseSchedule) -> Any:
    """A copy of ComfyUI's `model_sampling` with the levels of a schedule, as plain attributes."""
    made = copy.deepcopy(sampling)
    if not isinstance(made, KeptLevels):
        for name in LEVELS:
            made._buffers.pop(name, None)
        made.__class__ = _keeping(type(made))
    if hasattr(made, "schedule"):
        made.schedule = schedule
    made.set_sigmas(schedule.sigmas.float())
    return made


@cache
def _keeping(kind: type) -> type:
    return type(kind.__name__, (KeptLevels, kind), {})


class ScheduleSampling(KeptLevels, comfy.model_sampling.ModelSamplingDiscrete):
    """ComfyUI's noise levels from core's schedule; timesteps between two levels are fractional."""

    def __init__(self, schedule: NoiseSchedule):
        super().__init__()
        self.schedule = schedule
        self.num_timesteps = schedule.steps
        self.set_sigmas(schedule.sigmas)

    def timestep(self, sigma: Tensor) -> Tensor:
        return self.schedule.timestep(sigma).to(sigma.device)

    def calculate_input(self, sigma: Tensor, noise: Tensor, **kwargs: Any) -> Tensor:
        """The network's input: the schedule gives the scale (not always 1 / sqrt(sigma^2 + 1))."""
        return noise * broadcast(self.schedule.input_scale(sigma.cpu()).to(sigma), noise)


class RangeSampling(
    KeptLevels, comfy.model_sampling.ModelSamplingContinuousEDM, comfy.model_sampling.V_PREDICTION
):
    """ComfyUI's continuous noise levels for a network that predicts velocities."""

    def __init__(self, levels: NoiseRange):
        self.levels = levels
        super().__init__()

    def set_parameters(self, *args: Any, **kwargs: Any) -> None:
        """The model's range instead of ComfyUI's defaults, as a table of 1000 log-spaced levels,
        which ComfyUI's schedulers read."""
        low, high = math.log(self.levels.sigma_min), math.log(self.levels.sigma_max)
        self.sigma_data = 1.0
        self.set_sigmas(torch.linspace(low, high, 1000).exp())
