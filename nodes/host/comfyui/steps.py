"""The step of ComfyUI's sampler that an evaluation of the model belongs to.

ComfyUI only passes noise levels, and samplers also evaluate between two levels or, in a corrector,
at the next one. Their callback comes once per step, after its first evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import comfy.patcher_extension
from torch import Tensor

from ....core.diffusion.curves import StepAt, current_step, step_of
from ..shared.setup_warnings import CoreRun

KEY = "videoldm_steps"
"""The key of the wrappers in a model and of the counter in the transformer options."""
WRAPPERS = comfy.patcher_extension.WrappersMP

PREFIX = "sample_"
"""Prefix of ComfyUI's sampler functions."""
AHEAD = {
    f"{PREFIX}{name}"
    for name in (
        "heun", "heunpp2", "exp_heun_2_x0", "exp_heun_2_x0_sde", "dpm_2_ancestral",
        "dpmpp_2s_ancestral", "dpmpp_2s_ancestral_cfg_pp",
    )
}  # fmt: skip
"""Samplers that, within a step, also evaluate at the next step's level or beyond."""


class SamplerSteps:
    """Follows a sampler through its noise levels. run: its name, number of steps and cfg."""

    def __init__(self, levels: list[float], name: str, cfg: float):
        self.levels, self.looks_ahead = levels, name in AHEAD
        known = name if name.startswith(PREFIX) else ""
        self.run = CoreRun(
            sampler=known.removeprefix(PREFIX), steps=max(len(levels) - 1, 1), cfg=cfg
        )
        self.reported, self.since = -1, 0
        self.now = StepAt(0, max(len(levels) - 1, 1))

    def report(self, index: int) -> None:
        """Called by the sampler's callback of step `index`."""
        self.reported, self.since = index, 0

    def evaluate(self, sigma: float) -> None:
        """Called before the model is evaluated at a noise level."""
        self.since += 1
        found = step_of(sigma, self.levels)
        if self.looks_ahead and self.reported >= 0:
            within = self.since == 1 or found.index > self.reported + 1
            found = found._replace(index=self.reported) if within else found
        self.now = found


def count_steps(model: Any) -> None:
    """Count the steps of the model's samplers; changes the model, which must be our own clone."""
    for kind, wrapper in ((WRAPPERS.SAMPLER_SAMPLE, _sample), (WRAPPERS.PREDICT_NOISE, _evaluate)):
        # One that was added before stays outside of the wrappers that read the step.
        if not model.get_wrappers(kind, KEY):
            model.add_wrapper_with_key(kind, KEY, wrapper)


def step_at(options: Mapping[str, Any]) -> StepAt | None:
    """The current step, from the transformer options of an evaluation; None outside of samplers."""
    ours = current_step.get()
    if ours is not None:
        return ours
    counter = options.get(KEY)
    if counter is not None:
        return counter.now
    levels, sigma = options.get("sample_sigmas"), options.get("sigmas")
    if levels is None or sigma is None or len(levels) < 2:
        return None
    return step_of(float(sigma.max()), levels.tolist())


def run_of(options: Mapping[str, Any]) -> CoreRun:
    """What is known about the sampler run that an evaluation belongs to."""
    counter, step = options.get(KEY), step_at(options)
    if counter is not None:
        return counter.run
    return CoreRun(steps=step.total if step else 0)


def _sample(
    executor: Any, guider: Any, sigmas: Tensor, extra_args: dict[str, Any], callback: Any,
    *more: Any, **named: Any,
) -> Any:  # fmt: skip
    name = getattr(getattr(executor.class_obj, "sampler_function", None), "__name__", "")
    counter = SamplerSteps(sigmas.tolist(), name, float(getattr(guider, "cfg", 0.0)))
    extra_args["model_options"]["transformer_options"][KEY] = counter

    def counted(index: int, *of_step: Any) -> None:
        counter.report(int(index))
        if callback is not None:
            callback(index, *of_step)

    return executor(guider, sigmas, extra_args, counted, *more, **named)


def _evaluate(
    executor: Any, x: Tensor, timestep: Tensor, model_options: dict[str, Any] | None = None,
    *more: Any, **named: Any,
) -> Tensor:  # fmt: skip
    counter = (model_options or {}).get("transformer_options", {}).get(KEY)
    if counter is not None:
        counter.evaluate(float(timestep.max()))
    return executor(x, timestep, model_options, *more, **named)
