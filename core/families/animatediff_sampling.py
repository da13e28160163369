"""The originals' own sampling, of which their files hold nothing."""

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
"""Timesteps that the consistency models were trained on."""
DDIM = ("v1", "v2", "v3", "pia")
USUAL = UsualSettings(sampler="ddim", steps=25, cfg=7.5)
"""Of modules that were not distilled; none of them needs this sampler."""
LCM = {"animatelcm": 1.5, "animatelcm i2v": 1.0}
"""Guidance that consistency models were published with; 2 is the most."""


def lcm_timesteps(steps: int, *, distilled: int = 100, total: int = 1000) -> Tensor:
    """[steps] descending int64: evenly spaced among the ``distilled`` timesteps that a consistency
    model was trained on, k, 2k, ... minus 1. The text-to-video layers know 100, those that take an
    image 200.

    Raises ValueError for more steps than there are.
    """
    if not 1 <= steps <= distilled:
        raise ValueError(
            f"the layers were trained on 1 to {distilled} steps, but {steps} are asked"
        )
    known = (torch.arange(1, distilled + 1) * (total // distilled) - 1).flip(0)
    # floor(k distilled / steps) as the original rounds it: numpy's steps can fall just below.
    return known[np.floor(np.linspace(0, distilled, steps, endpoint=False)).astype(int)]


def published_plan(trained: str, sampler: str, steps: int) -> Plan:
    """The noise levels of the original of "animatediff v3" and its like: DDIM from 1 + k (1000 /
    steps), multistep consistency sampling, or Euler from the last timestep for Lightning's.

    Raises ValueError for other samplers, and for layers whose original has others.
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
    """The sampler, steps and guidance of "animatediff v3" and its like; of those that were
    distilled also the most that they bear."""
    variant, lightning = _variant(trained)
    if lightning:
        return UsualSettings(
            sampler="euler", steps=lightning, cfg=1.0, most_steps=lightning, most_cfg=1.0
        )
    if variant in LCM:
        return UsualSettings(sampler="lcm", steps=4, cfg=LCM[variant], most_steps=8, most_cfg=2.0)
    return USUAL if variant in DDIM else None


def _variant(trained: str) -> tuple[str, int]:
    """The variant of a family such as "animatediff v2 lightning 4", and its steps of Lightning's, 0
    for others."""
    variant, _, steps = trained.partition(" ")[2].partition(" lightning ")
    return variant, int(steps or 0)
