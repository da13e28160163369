"""Sampling settings of the originals, which their files do not hold."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..diffusion.samplers import sample_ddim, sample_euler, sample_lcm
from ..diffusion.sampling_plan import Plan, UsualSettings
from ..diffusion.schedules import (
    SCHEDULES,
    get_sigmas_at,
    get_sigmas_leading,
    get_sigmas_trailing,
)
from .animatediff_config import VARIANTS

DISTILLED = {"animatelcm": 100, "animatelcm i2v": 200}
"""Number of timesteps that the consistency models were trained on."""
DDIM = ("v1", "v2", "v3", "pia")
USUAL = UsualSettings(sampler="ddim", steps=25, cfg=7.5)
"""For modules that were not distilled; they also work with other samplers."""
LCM = {"animatelcm": 1.5, "animatelcm i2v": 1.0}
"""Published guidance scale of the consistency models; 2 is the maximum."""


def lcm_timesteps(steps: int, *, distilled: int = 100, total: int = 1000) -> Tensor:
    """[steps] int64, descending: evenly spaced among the ``distilled`` timesteps k - 1, 2k - 1, ...
    that a consistency model was trained on: 100 for the text-to-video layers, 200 for those that
    take an image.

    Raises ValueError for fewer than 1 or more than ``distilled`` steps.
    """
    if not 1 <= steps <= distilled:
        raise ValueError(
            f"the layers were trained on 1 to {distilled} steps, but {steps} were requested"
        )
    known = (torch.arange(1, distilled + 1) * (total // distilled) - 1).flip(0)
    # floor(k distilled / steps), rounded as in the original: linspace can fall just below.
    return known[np.floor(np.linspace(0, distilled, steps, endpoint=False)).astype(int)]


def published_plan(trained: str, sampler: str, steps: int) -> Plan:
    """The original's noise levels, for "animatediff v3" and the like: DDIM at timesteps 1 + k (1000
    // steps), multistep consistency sampling, or (Lightning) Euler from the last timestep.

    Raises ValueError for any sampler but the published one.
    """
    variant, lightning = _variant(trained)
    known = {**dict.fromkeys(DDIM, "ddim"), **dict.fromkeys(DISTILLED, "lcm")}
    published = "euler" if lightning else known.get(variant)
    if published != sampler:
        with_which = f"was published with {published}, not with" if published else "has no plan for"
        raise ValueError(f"{trained} {with_which} {sampler}")
    name, first, last = VARIANTS[variant].betas
    schedule = SCHEDULES[name](start=first, end=last)
    if sampler == "euler":
        sigmas = get_sigmas_trailing(schedule, steps)
        return Plan(schedule=schedule, sampler=sample_euler, sigmas=sigmas)
    if sampler == "ddim":
        sigmas = get_sigmas_leading(schedule, steps, offset=1)
        return Plan(schedule=schedule, sampler=sample_ddim, sigmas=sigmas)
    timesteps = lcm_timesteps(steps, distilled=DISTILLED[variant])
    return Plan(schedule=schedule, sampler=sample_lcm, sigmas=get_sigmas_at(schedule, timesteps))


def usual_settings(trained: str) -> UsualSettings | None:
    """Default sampler, steps and guidance, for "animatediff v3" and the like; for distilled modules
    also the maximum steps and guidance."""
    variant, lightning = _variant(trained)
    if lightning:
        return UsualSettings(
            sampler="euler", steps=lightning, cfg=1.0, max_steps=lightning, max_cfg=1.0
        )
    if variant in LCM:
        return UsualSettings(sampler="lcm", steps=4, cfg=LCM[variant], max_steps=8, max_cfg=2.0)
    return USUAL if variant in DDIM else None


def _variant(trained: str) -> tuple[str, int]:
    """(variant, Lightning steps) of a family such as "animatediff v2 lightning 4"; 0 steps for
    others."""
    variant, _, steps = trained.partition(" ")[2].partition(" lightning ")
    return variant, int(steps or 0)
