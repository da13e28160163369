"""Guidance over frames and steps: a curve that multiplies the cfg of any sampler."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import comfy.patcher_extension
import comfy.samplers
from einops import repeat
from torch import Tensor

from ....core.diffusion.curves import FULL, Curve
from ....core.diffusion.guidance import relative
from .attached import attach
from .layers import FRAME_BATCH
from .sampling import VideoGuider
from .steps import count_steps, step_at

KEY = "videoldm_guidance"
"""The key of the wrapper and the attachment in a ModelPatcher."""
PREDICT_NOISE = comfy.patcher_extension.WrappersMP.PREDICT_NOISE
GUIDED_BY_CFG = (comfy.samplers.CFGGuider.predict_noise, VideoGuider.predict_noise)
FUNCTION = "sampler_cfg_function"
"""The model option with a function that combines the predictions instead of ComfyUI's formula."""


def with_guidance(model: Any, curve: Curve) -> Any:
    """A clone whose samplers' cfg is multiplied by the curve, on top of curves set before."""
    clone, whole = model.clone(), (model.get_attachment(KEY) or FULL) * curve
    count_steps(clone)  # Before the wrapper that asks for the step.
    attach(clone, PREDICT_NOISE, KEY, whole, GuidancePass(whole))
    return clone


@dataclass(frozen=True, eq=False)
class GuidancePass:
    """The wrapper around a guider's evaluation."""

    curve: Curve

    def __call__(
        self, executor: Any, x: Tensor, timestep: Tensor,
        model_options: dict[str, Any] | None = None, *more: Any, **named: Any,
    ) -> Tensor:  # fmt: skip
        guider, options = executor.class_obj, model_options or {}
        if type(guider).predict_noise not in GUIDED_BY_CFG:
            self._warn(guider)
            return executor(x, timestep, model_options, *more, **named)
        cfg, inner = guider.cfg, options.get("transformer_options", {})
        if cfg == 1:  # No guidance.
            return executor(x, timestep, model_options, *more, **named)
        frames = frames_of(x, inner)
        scale = (self.curve * cfg).amount(frames, step_at(inner), tuple(x.shape[-2:]))
        if isinstance(scale, Tensor):
            options, scale = _combining(options, _spread(scale, x), cfg), cfg
        with _at(guider, scale):
            return executor(x, timestep, options, *more, **named)

    def _warn(self, guider: Any) -> None:
        from .host import host

        host.warn(
            f"the guider {type(guider).__name__} has no single cfg, so the guidance curve has no "
            "effect on it"
        )


def frames_of(x: Tensor, options: dict[str, Any]) -> tuple[int, ...]:
    """Absolute numbers of the frames of one video in the latents that a guider evaluates."""
    batch = options.get(FRAME_BATCH)
    if batch is not None:
        return tuple(batch.conditions.numbers(batch.frames))
    return tuple(range(x.shape[2] if x.ndim == 5 else len(x)))


def _spread(scale: Tensor, x: Tensor) -> Tensor:
    """scale [t, h, w] for x [(b t), c, h, w] or [b, c, t, h, w]."""
    if x.ndim == 5:
        return scale.to(x)[None, None]
    return repeat(scale, "t h w -> (b t) 1 h w", b=len(x) // len(scale)).to(x)


def _combining(options: dict[str, Any], scale: Tensor, cfg: float) -> dict[str, Any]:
    """Options that combine the predictions with this scale instead of cfg. If another node's
    function combines them, which may only take a number, its guidance is scaled by scale / cfg."""
    before = options.get(FUNCTION)

    def combine(given: dict[str, Any]) -> Tensor:
        uncond = given["uncond"]
        if before is not None:
            return uncond + (before(given) - uncond) * relative(scale, cfg)
        return uncond + (given["cond"] - uncond) * scale

    return {**options, FUNCTION: combine}


@contextmanager
def _at(guider: Any, cfg: float) -> Iterator[None]:
    before, guider.cfg = guider.cfg, cfg
    try:
        yield
    finally:
        guider.cfg = before
