"""ModelScope's own sampling: DDIM with eta 0, down to the schedule's first noise level."""

from __future__ import annotations

from ..diffusion.samplers import sample_ddim
from ..diffusion.sampling_plan import Plan, UsualSettings
from ..diffusion.schedules import get_sigmas_strided, scaled_linear


def published_plan(trained: str, sampler: str, steps: int) -> Plan:
    """The original's timesteps 1 + k (1000 // steps), more than `steps` if that does not divide
    1000. Raises ValueError for samplers other than DDIM."""
    if sampler != "ddim":
        raise ValueError(f"{trained} was published with ddim, not with {sampler}")
    schedule = scaled_linear()
    sigmas = get_sigmas_strided(schedule, steps, end_on_first=True)
    return Plan(schedule=schedule, sampler=sample_ddim, sigmas=sigmas)


def usual_settings(trained: str) -> UsualSettings:
    """The defaults of the original's pipeline."""
    return UsualSettings(sampler="ddim", steps=50, cfg=9.0)
