"""Frame interpolation: sample the frames between keyframes, or all frames anew from copied
keyframes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...core.tasks.finished import Finished, step_by_step
from ...core.tasks.frame_stream import check_finite
from ...core.tasks.interpolation import FACTOR, Interpolation, interpolate, interpolated_frames
from ...core.tasks.keyframe_conditioning import (
    copied_keys,
    generated_mask,
    interpolating_denoiser,
    masked_latents,
)
from ...core.tasks.segment import (
    ContextUse,
    Evaluations,
    Perturbation,
    Sampling,
    SegmentCondition,
    in_scope,
    reporter,
)
from ..checks import interpolation_faults, require
from ..host.interface import Guidance
from ..host.shared.arriving import latents
from ..host.shared.finished_stages import keep_latent
from ..host.shared.misfits import without_effect
from ..host.shared.runs import finished_chunks
from ..host.shared.setup_warnings import interpolation_warnings, trained_keys
from .running import Meter, Settings, gathered, plan_for, require_room, sampling_for
from .sampling import check_takes_context

if TYPE_CHECKING:
    from ..host.interface import Host, ModelFacts, Wire

IN_CHUNKS = ("seed", "latent")
"""Inputs outside the key of a run: chunks have their values in their own keys."""
SHARED_KEYS = 4
"""Keyframes shared by neighbouring windows of `_ConcatInterpolation`: 13 frames of 61."""


@dataclass(frozen=True, kw_only=True)
class InterpolationRequest:
    """The node's inputs. window_keys: keyframes per window, 0 for as many as in training."""

    passes: int
    cfg: float
    context_guidance: float
    window_keys: int
    keep_keys: bool
    vae: Any = None
    perturbation: int = 0


def interpolate_frames(
    host: Host, model: Wire, positive: list, negative: list, latent: dict[str, Any],
    request: InterpolationRequest, settings: Settings,
) -> dict[str, Any]:  # fmt: skip
    """Fill in three frames between every two, `passes` times; returns the longer LATENT."""
    require(interpolation_faults, vars(request) | vars(settings))
    facts = host.facts(model)
    found = interpolation_warnings(facts.layers, request.window_keys)
    for sentence in (*found, *without_effect(facts, "Interpolate Frames")):
        host.warn(sentence)
    if facts.is_upsampler:
        raise ValueError("the model is an upsampler: use it in Upsample Video")
    if facts.task == "interpolation" and facts.low_res_channels:
        run = _ConcatInterpolation(host, model, (positive, negative), request, settings)
        return run.frames(latent)
    check_takes_context(host, model)
    keys = latents(latent, partial(host.to_core, model))
    _check_keys(keys.shape)
    window_keys, size = request.window_keys, _size(facts, keys.shape)
    window_keys = window_keys or trained_keys(facts.trained_frames)
    require_room(host, facts, interpolated_frames(window_keys), size, request.cfg)
    finished = finished_chunks(host, without=IN_CHUNKS, prompts=(positive, negative))
    chunks = interpolate(
        host.denoiser_for(model, positive, negative, Guidance(cfg=request.cfg)),
        keys.frames(),
        sampling_for(host, model, settings, positive, finished),
        settings=Interpolation(
            window_keys=window_keys,
            passes=request.passes,
            keep_keys=request.keep_keys,
            from_blend=settings.denoise < 1,
            use=_use(facts, request),
            total_keys=keys.shape[1],
        ),
        callback=Meter(host),
    )
    longer = gathered(host, model, chunks, interpolated_frames(keys.shape[1], request.passes))
    keep_latent(host, finished, longer)
    return longer


def _use(facts: ModelFacts, request: InterpolationRequest) -> ContextUse:
    level = request.perturbation
    noise = Perturbation(level=level, schedule=facts.schedule) if level else None
    scale = request.context_guidance
    return ContextUse(scale=scale, perturbation=noise, in_place=facts.in_place)


def _keys(host: Host, model: Wire, latent: dict[str, Any]) -> Tensor:
    keys = host.to_core(model, latent)
    _check_keys(keys.shape)
    return keys


def _check_keys(shape: Sequence[int]) -> None:
    if shape[1] < 2:
        raise ValueError(f"{shape[1]} frame was given, at least 2 are needed to interpolate")


def _size(facts: ModelFacts, shape: Sequence[int]) -> tuple[int, int]:
    """(width, height) in pixels of latents [b t c h w]."""
    return facts.factor * shape[-1], facts.factor * shape[-2]


class _ConcatInterpolation:
    """Interpolation by a model that reads keyframes as extra input channels and samples all frames,
    keyframes included; see :mod:`...core.tasks.keyframe_conditioning`."""

    def __init__(self, host: Host, model: Wire, prompts: tuple[list, list],
                 request: InterpolationRequest, settings: Settings):  # fmt: skip
        self.host, self.model, self.request, self.settings = host, model, request, settings
        self.facts = host.facts(model)
        self.plan = plan_for(host, model, settings)
        finished = finished_chunks(host, without=IN_CHUNKS, prompts=prompts)
        self.sampling: Sampling = sampling_for(host, model, settings, prompts[0], finished)
        self.denoiser_for = host.denoiser_for(model, *prompts, Guidance(cfg=request.cfg))
        self.meter = Meter(host)
        self._check()

    def _check(self) -> None:
        if self.settings.denoise < 1:
            raise ValueError(
                f"denoise {self.settings.denoise} starts from blended frames, but this model "
                "samples every frame from pure noise: set it to 1"
            )
        if self.request.context_guidance != 1:
            raise ValueError(
                f"context_guidance {self.request.context_guidance} is for layers with context "
                "frames, but this model reads keyframes in its input: set it to 1"
            )
        if self.request.perturbation:
            raise ValueError(
                f"perturbation {self.request.perturbation} is for layers with context frames, but "
                "this model reads keyframes in its input: set it to 0"
            )
        channels, latents = self.facts.low_res_channels, self.facts.latent_channels
        if channels not in (latents, latents + 1):
            raise ValueError(
                "the model reads other frames, but does not interpolate between them: use an "
                "interpolation model, or an image model with interpolation layers"
            )
        if channels == latents + 1 and self.request.vae is None:
            raise ValueError(
                "the model reads a mask, with encoded grey frames in place of missing ones: "
                "connect the input vae"
            )

    def frames(self, latent: dict[str, Any]) -> dict[str, Any]:
        keys = _keys(self.host, self.model, latent)
        for number in range(self.request.passes):
            keys = self._one_pass(keys, number)
        longer = self.host.from_core(self.model, keys)
        keep_latent(self.host, self.sampling.finished, longer)
        return longer

    def _one_pass(self, keys: Tensor, number: int) -> Tensor:
        condition = self._condition(keys)
        seen = min(self._window()[0], condition.shape[1])
        require_room(self.host, self.facts, seen, _size(self.facts, keys.shape), self.request.cfg)
        spacing = FACTOR ** (self.request.passes - 1 - number)
        frames = range(0, condition.shape[1] * spacing, spacing)
        source = self.sampling.noise(len(keys), frames)
        shape = *condition.shape[:2], self.facts.latent_channels, *condition.shape[3:]
        window, overlap = self._window()
        denoiser = interpolating_denoiser(
            self.denoiser_for, condition, window=window, overlap=overlap
        )
        report = reporter(self.meter, f"interpolation {number + 1}", 0, 1)
        start = source.initial(keys.new_empty(shape))
        first = SegmentCondition(frames=range(seen), concatenated=condition[:, :seen])
        size = shape[0], *shape[2:]

        def make(step: Finished) -> Tensor:
            run = partial(
                self.plan.run, step_by_step(denoiser, step), start, step_noise=source,
                callback=report,
            )  # fmt: skip
            made = in_scope(self.denoiser_for, Evaluations(first, size, self.plan.sigmas), run)
            return check_finite(made)

        made = self.sampling.finished.in_steps(
            make, frames=frames, condition=condition, noise=source,
            sigmas=self.plan.sigmas,
        )  # fmt: skip
        made = made.to(keys.device, copy=True)
        if self.request.keep_keys:
            made[:, ::FACTOR] = keys
        return made

    def _window(self) -> tuple[int, int]:
        keys = max(self.request.window_keys or trained_keys(self.facts.trained_frames), 2)
        shared = min(SHARED_KEYS, keys - 1)
        return interpolated_frames(keys), interpolated_frames(shared)

    def _condition(self, keys: Tensor) -> Tensor:
        """The extra input channels [b 4K-3 c h w] for K keyframes [b K c h w]."""
        if self.facts.low_res_channels == self.facts.latent_channels:
            return copied_keys(keys)
        mask = generated_mask(interpolated_frames(keys.shape[1]))
        video = self._grey(keys).repeat_interleave(len(mask), dim=1)
        video[:, ::FACTOR] = keys
        return masked_latents(video, mask)

    def _grey(self, keys: Tensor) -> Tensor:
        """The latents [b 1 c h w] of a mid-grey frame."""
        side = [self.facts.factor * n for n in keys.shape[-2:]]
        grey = torch.zeros(1, 1, 3, *side, device=keys.device)
        latents = self.host.to_core(self.model, self.host.encode(self.request.vae, grey))
        return latents.expand(len(keys), -1, -1, -1, -1).clone()
