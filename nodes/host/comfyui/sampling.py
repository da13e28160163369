"""A ComfyUI MODEL as core's denoiser.

Our samplers run inside ComfyUI's guider, so that its memory management, hooks, ControlNets and the
patches of other nodes work as in ComfyUI's own samplers. Models are loaded, hooks registered and
wrappers entered once per sampling, before the first evaluation.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.sampler_helpers
import comfy.samplers
import torch
from einops import rearrange
from torch import Tensor

from ....core.diffusion.guidance import rescaled_x0
from ....core.networks.conditions import NOISE_LEVEL, Conditions
from ....core.networks.video_shape import check_video
from ....core.tasks.segment import (
    DenoiserFor,
    Evaluations,
    ScopedDenoisers,
    SegmentCondition,
    conditions_of,
)
from ..interface import Guidance
from ..shared.misfits import check_prompts_fit
from .frame_conditions import note_frames
from .frame_levels import Range, at_levels, ranges_of, set_ranges
from .layers import FRAME_BATCH, FrameBatch
from .model_facts import network_spec, prediction_of, trained_network_of
from .reference import REFERENCE
from .segment_prompts import SegmentPrompts, for_batch

MOST_CACHED = 4
"""Segments of one sampling, such as sliding windows, whose prepared conditions are cached."""


def denoiser_for(
    model: Any, positive: Sequence, negative: Sequence, guidance: Guidance,
    offer: Callable[[Any, Tensor], None] = lambda *_: None,
) -> DenoiserFor:  # fmt: skip
    """See `Host.denoiser_for`. `offer(model, denoised)` gets every result, for previews."""
    spec = network_spec(model)
    moves = spec.begins_with_image
    check_prompts_fit(positive, negative, spec.image if moves else spec.text)
    unscaled = model.model.process_latent_out if moves else None
    prompts = SegmentPrompts(positive, negative, unscaled)
    return SegmentDenoisers(model, prompts, guidance, offer)


class SegmentDenoisers(ScopedDenoisers):
    """Denoisers of segments by one model. `offer(model, denoised)` gets every result."""

    def __init__(self, model: Any, prompts: SegmentPrompts, guidance: Guidance,
                 offer: Callable[[Any, Tensor], None]):  # fmt: skip
        self.model, self.prompts, self.guidance, self.offer = model, prompts, guidance, offer
        self.network = network_spec(model)
        self.running: GuidedSampling | None = None

    def __call__(self, condition: SegmentCondition) -> SegmentDenoiser:
        return SegmentDenoiser(self, condition)

    def sampling(self, planned: Evaluations, run: Callable[[], Tensor]) -> Tensor:
        condition, (videos, *image), sigmas = planned
        shape = (videos, len(condition.frames), *image)
        guider = VideoGuider(self.model, self.guidance)
        guider.inner_set_conds(self.used(self.prompts.whole(condition, shape)))
        self.running = GuidedSampling(guider, run)
        nothing = torch.zeros(videos * shape[1], *image)
        try:
            # The guider returns raw latents; core wants the network's, scaled.
            guider.sample(nothing, nothing, self.running, sigmas.float(), disable_pbar=True, seed=0)
            return self.running.result
        finally:
            self.running = None

    def used(self, prompts: dict[str, list]) -> dict[str, list]:
        return {name: one for name, one in prompts.items()
                if name == "positive" or self.guidance.cfg != 1}  # fmt: skip

    def given(self, condition: SegmentCondition) -> Conditions:
        """The conditions of a segment without its prompts, which ComfyUI handles; ValueError for
        some that the network does not read, or if it lacks one that it needs."""
        if self.network.begins_with_image:
            # All others are in the prompts, where ComfyUI's model class reads them.
            return Conditions(frames=tuple(condition.frames))
        given = conditions_of(condition, self.network.ids)
        self.network.check(given)
        given.check_noise_level(trained_network_of(self.model).max_noise_level)
        return given


class SegmentDenoiser:
    """denoiser(x [b t c h w], sigma) of a segment; a call outside of a sampling opens its own."""

    def __init__(self, segments: SegmentDenoisers, condition: SegmentCondition):
        self.segments, self.condition, self.given = segments, condition, segments.given(condition)
        self.prompts = segments.used(segments.prompts.of_segment(condition))

    @property
    def batch(self) -> FrameBatch:
        # ComfyUI passes on concatenated latents and their noise level in the prompts' entries.
        ids = {name: value for name, value in self.given.ids.items() if name != NOISE_LEVEL}
        conditions = replace(self.given, concatenated=None, ids=ids)
        return FrameBatch(frames=len(self.condition.frames), conditions=conditions)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        check_video(x, self.segments.network.latent_channels)
        self.given.check_fits(x)
        running = self.segments.running
        if running is None:
            planned = Evaluations(self.condition, (len(x), *x.shape[2:]), torch.zeros(2))
            return self.segments.sampling(planned, lambda: self(x, sigma))
        comfy.model_management.throw_exception_if_processing_interrupted()
        denoised = running.evaluate(self, x, sigma)
        self.segments.offer(self.segments.model, denoised)
        return rearrange(denoised, "(b t) c h w -> b t c h w", t=x.shape[1]).to(x)


@dataclass(frozen=True)
class PreparedConds:
    """A segment's conditions as the guider's model takes them, their ControlNets' noise ranges, and
    its model options."""

    conds: dict[str, list]
    ranges: dict[Any, Range]
    options: dict[str, Any]

    def clean_up(self) -> None:
        comfy.sampler_helpers.cleanup_models(self.conds, [])


class GuidedSampling(comfy.samplers.Sampler):
    """A sampling in progress: a sampler to ComfyUI, which calls `run`, and for segments the way to
    evaluate the guider it runs in.

    It ignores the noise that ComfyUI passes: our samplers draw their own, which other nodes'
    wrappers cannot shuffle.
    """

    def __init__(self, guider: VideoGuider, run: Callable[[], Tensor]):
        self.guider, self.run = guider, run
        self.cached: OrderedDict[SegmentDenoiser, PreparedConds] = OrderedDict()
        self.result: Tensor | None = None

    def sample(self, model_wrap: Any, sigmas: Tensor, extra_args: dict[str, Any], callback: Any,
               noise: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # fmt: skip
        self.model_wrap, self.extra_args = model_wrap, extra_args
        self.device = noise.device
        given = self.guider.conds
        try:
            self.result = self.run()
        finally:
            self.guider.conds = given
            for one in self.cached.values():
                one.clean_up()
            self.cached.clear()
        return noise

    def evaluate(self, segment: SegmentDenoiser, x: Tensor, sigma: Tensor) -> Tensor:
        """The denoised frames [(b t) c h w] of x [b t c h w]."""
        folded = rearrange(x, "b t c h w -> (b t) c h w").to(self.device, torch.float32)
        prepared = self._prepared(segment, x.shape, folded)
        levels = _per_frame(sigma, x).to(folded)
        set_ranges(prepared.ranges, levels)
        self.guider.conds = at_levels(prepared.conds, levels, tuple(x.shape[-2:]))
        self.guider.frames = x.shape[1]
        given = self.extra_args | {"model_options": prepared.options}
        return self.model_wrap(folded, levels.flatten(), **given)

    def _prepared(
        self, segment: SegmentDenoiser, shape: Sequence[int], folded: Tensor
    ) -> PreparedConds:
        prepared = self.cached.pop(segment, None)
        if prepared is None:
            prompts = for_batch(segment.prompts, segment.condition, shape)
            conds = self.guider.prepare_conds(prompts, folded)
            prepared = PreparedConds(conds, ranges_of(conds), self._options(segment))
        self.cached[segment] = prepared
        if len(self.cached) > MOST_CACHED:
            self.cached.popitem(last=False)[1].clean_up()
        return prepared

    def _options(self, segment: SegmentDenoiser) -> dict[str, Any]:
        options = comfy.model_patcher.create_model_options_clone(self.extra_args["model_options"])
        own, numbers = options["transformer_options"], list(segment.condition.frames)
        own[FRAME_BATCH] = segment.batch
        own[REFERENCE] = segment.condition.reference
        note_frames(own, numbers, max(numbers) + 1)
        return options


def _per_frame(sigma: Tensor, x: Tensor) -> Tensor:
    """Noise levels [b t] from [], [b] or [b t]."""
    if sigma.ndim == 1:
        sigma = sigma[:, None]
    return sigma.to(x).expand(x.shape[:2])


class VideoGuider(comfy.samplers.CFGGuider):
    """ComfyUI's classifier-free guidance, with guidance rescale if it is set."""

    def __init__(self, model: Any, guidance: Guidance):
        super().__init__(model)
        self.rescale, self.frames = guidance.rescale, 1
        self.set_cfg(guidance.cfg)

    def prepare_conds(self, prompts: dict[str, list], latents: Tensor) -> dict[str, list]:
        """Prompts as conditions for latents [n c h w], prepared while the guider samples as ComfyUI
        does before sampling."""
        conds = {name: comfy.sampler_helpers.convert_cond(one) for name, one in prompts.items()}
        comfy.samplers.preprocess_conds_hooks(conds)
        comfy.samplers.filter_registered_hooks_on_conds(conds, self.model_options)
        return comfy.samplers.process_conds(
            self.inner_model, latents, conds, latents.device, torch.zeros_like(latents), None, 0
        )

    def predict_noise(
        self, x: Tensor, timestep: Tensor, model_options: dict | None = None, seed: Any = None,
        **more: Any,
    ) -> Tensor:  # fmt: skip
        if not self.rescale or self.cfg == 1:
            return super().predict_noise(x, timestep, model_options or {}, seed, **more)
        both = [self.conds["positive"], self.conds["negative"]]
        cond, uncond = comfy.samplers.calc_cond_batch(
            self.inner_model, both, x, timestep, model_options or {}
        )
        # Keeps guidance functions of other nodes, such as one that rises over the frames.
        guided = comfy.samplers.cfg_function(
            self.inner_model, cond, uncond, self.cfg, x, timestep, model_options or {}, *both
        )
        # The standard deviation is that of the whole video, not of each frame.
        x, timestep, cond, guided = (
            one.unflatten(0, (-1, self.frames)) for one in (x, timestep, cond, guided)
        )
        prediction = prediction_of(self.inner_model)
        return rescaled_x0(x, timestep, cond, guided, self.rescale, prediction=prediction).flatten(
            0, 1
        )
