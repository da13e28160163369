"""The standalone host's MODEL, and its denoiser for the conditions of a segment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ....core.diffusion.curves import FULL, Curve, current_step
from ....core.diffusion.denoiser import Denoiser
from ....core.diffusion.free_init import FreeInit
from ....core.diffusion.guidance import (
    Branch,
    Scale,
    averaged,
    guided,
    relative,
    rescaled,
    scheduled,
    window_level,
)
from ....core.networks.conditions import Conditions
from ....core.networks.diffusion_model import DiffusionModel
from ....core.networks.injected_sets import Injection
from ....core.networks.reference import ReferenceWindow
from ....core.networks.temporal_layers import Strength, TemporalLayers
from ....core.tasks.segment import DenoiserFor, SegmentCondition, conditions_of
from ..interface import Guidance, ModelFacts
from ..shared.conditioning import branches, pooled_for, text_for
from ..shared.image_tokens import beside, image_of, rate_ids, rate_of
from ..shared.misfits import (
    check_image_frames,
    check_layers_fit,
    check_prompts_fit,
    check_strength_fits,
    check_takes_layers,
)
from ..shared.model_facts import model_facts, trained_network
from ..shared.sizes import size_ids
from ..shared.start_image import start_image_of
from ..shared.steering import Misfit, why_not
from .context_windows import ContextWindows
from .control import Hint, hints_of, level_of, with_hints_of


@dataclass(frozen=True)
class StandaloneModel:
    """A diffusion model on a wire. It is immutable: every change returns a new one.

    free_init: FreeInit's settings for its samplers. windows: ComfyUI's context windows, for
    KSampler. reference: a window that the others read. guidance: multiplies the samplers' cfg.
    ramp: ramp(cfg, frames) is the guidance of each frame of a segment, as of ComfyUI's nodes; None
    is the same for all.
    """

    core: DiffusionModel
    free_init: FreeInit | None = None
    windows: ContextWindows | None = None
    reference: ReferenceWindow | None = None
    guidance: Curve = FULL
    ramp: Callable[[float, int], Tensor] | None = None

    def clone(self) -> StandaloneModel:
        return replace(self)

    @property
    def facts(self) -> ModelFacts:
        core = self.core
        found = model_facts(
            core.network.spec, core.sets, trained_network(core), factor=core.factor,
            schedule=core.levels, device=core.device, precision=core.dtype.itemsize,
        )  # fmt: skip
        return replace(found, free_init=self.free_init, reference=self.reference)

    def injected(
        self, layers: TemporalLayers, strength: Strength, **options: Any
    ) -> StandaloneModel:
        check_takes_layers(self.core.network)
        check_layers_fit(layers.spec, self.core.network.layout)
        check_strength_fits(strength, layers.spec)
        check_image_frames(options.get("image_frames", ()), layers.spec)
        there = dict(device=self.core.device, dtype=self.core.dtype)
        layers = layers.to(**there)
        for one in layers.updates:
            one.updates.to(**there)
        core = self.core.with_layers(layers, strength)
        *before, last = core.sets
        return replace(self, core=core.with_sets([*before, replace(last, **options)]))

    def steered(self, misfit: Misfit, change: Callable[[Injection], Injection]) -> StandaloneModel:
        """The model with the last suitable set of layers changed; the ValueError if there is none
        says why."""
        sets = self.core.sets.changed(lambda one: not misfit(one), change)
        if sets is None:
            raise ValueError(why_not(self.core.sets, misfit))
        return replace(self, core=self.core.with_sets(sets))

    def with_ramp(self, ramp: Callable[[float, int], Tensor]) -> StandaloneModel:
        return replace(self, ramp=ramp)

    def ejected(self) -> StandaloneModel:
        return replace(self, core=self.core.ejected())


def denoiser_for(
    model: StandaloneModel, positive: Sequence, negative: Sequence, guidance: Guidance
) -> DenoiserFor:
    """See `Host.denoiser_for`."""
    core = model.core
    spec = core.network.spec
    check_prompts_fit(positive, negative, spec.image if spec.begins_with_image else spec.text)
    negative = with_hints_of(positive, negative)
    hints = [one for entry in (*positive, *negative) for one in hints_of([entry], [0])]
    for hint in hints:
        check_takes_layers(core.network, "ControlNets")
        core.network.check_control(hint.net.network)

    def for_segment(condition: SegmentCondition) -> Denoiser:
        cond = _bound(core, positive, condition)
        if guidance.cfg == 1:
            return cond
        uncond = _bound(core, negative, condition, is_negative=True)

        def guide(scale: Scale) -> Denoiser:
            phi = guidance.rescale
            if model.ramp is not None:
                rising = model.ramp(guidance.cfg, len(condition.frames))
                rising = rising[:, None, None] if isinstance(scale, Tensor) else rising
                scale = rising * relative(scale, guidance.cfg)
            if phi and (isinstance(scale, Tensor) or scale != 1):
                return rescaled(cond, uncond, scale, phi, prediction=core.prediction)
            return guided(cond, uncond, scale)

        return scheduled(guide, model.guidance * guidance.cfg, condition.frames)

    return for_segment


def _bound(
    core: DiffusionModel, conditioning: Sequence, condition: SegmentCondition, *,
    is_negative: bool = False,
) -> Denoiser:  # fmt: skip
    """The mean over combined prompts, each within its range of noise levels."""
    parts, reference = [], condition.reference
    for k, branch in enumerate(branches(conditioning)):
        if reference is not None:
            own = reference.of_branch(k, is_negative=is_negative)
            condition = replace(condition, reference=own)
        options = branch[0][1]
        first = level_of(core.levels, options.get("start_percent", 0.0))
        last = level_of(core.levels, options.get("end_percent", 1.0))
        parts.append(Branch(_branch_denoiser(core, branch, condition), first, last))
    return averaged(parts)


def _branch_denoiser(
    core: DiffusionModel, conditioning: Sequence, condition: SegmentCondition
) -> Denoiser:
    given = _conditions(core, conditioning, condition)
    hints, alone = hints_of(conditioning, condition.frames), core.denoiser(given)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        acting = _controlled(core, hints, x, sigma, condition.frames)
        return (alone if acting is core else acting.denoiser(given))(x, sigma)

    return denoise


def _conditions(
    core: DiffusionModel, conditioning: Sequence, condition: SegmentCondition
) -> Conditions:
    spec = core.network.spec
    if spec.begins_with_image:
        start = start_image_of(conditioning, condition, core.unscaled)
        given = start.conditions(len(condition.frames))
        return replace(given, frames=tuple(condition.frames))
    text = None if spec.text is None else text_for(conditioning, condition.frames)
    pooled = pooled_for(conditioning, condition.frames) if spec.pooled_text else None
    given = conditions_of(condition, spec.ids, text, pooled)
    if spec.image is not None:
        given = replace(given, image=beside(image_of(conditioning), text))
    ids = rate_ids(spec, rate_of(conditioning)) | size_ids(spec, conditioning)
    return replace(given, ids=dict(given.ids) | ids)


def _controlled(
    core: DiffusionModel, hints: Sequence[Hint], x: Tensor, sigma: Tensor, frames: Sequence[int]
) -> DiffusionModel:
    """The model with the ControlNets that act on some of these frames at this noise level."""
    level, step = window_level(sigma), current_step.get()
    acting = [
        one.control(x, frames, step)
        for one in hints
        if one.acts(core.levels, level) and not one.off(frames, step)
    ]
    return core.with_controls(acting) if acting else core
