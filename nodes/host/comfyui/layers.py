"""Temporal layers in a MODEL of ComfyUI's.

Nothing of the image U-Net is replaced. A wrapper around its forward pass sets forward hooks on the
modules that layers sit behind or in, for that one pass, and takes them off again: clones of a model
share its weights, and a model without the wrapper is the image model bit for bit. ComfyUI loads the
layers' weights along with the model as its additional models.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import comfy.model_patcher
import comfy.patcher_extension
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor

from ....core.context_frames import ContextFrames, no_context
from ....core.layer_specs import BlockPlace
from ....core.schedules import SCHEDULES
from ....core.sites import UNetLayout
from ....core.temporal_layers import SetInputs, Strength, TemporalLayers, in_place
from ....core.temporal_layers_spec import Betas, HostChanges
from ..shared.layer_facts import layers_known
from ..shared.misfits import check_layers_fit
from ..shared.setup_warnings import core_sampler_warnings
from .embedded_model import ScheduleSampling, unet_layout
from .unet_hooks import hooked

KEY = "videoldm"
"""Of the wrapper, the additional models and the attachment in a ModelPatcher."""
SCHEDULE, SAMPLING = "videoldm_schedule", "model_sampling"
"""The attachment of noise levels that layers brought, and what they are in a model."""
TOLD = "videoldm"
"""Of a `Told` among the transformer options."""
CALC_COND_BATCH = comfy.patcher_extension.WrappersMP.CALC_COND_BATCH
DIFFUSION_MODEL = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL


@dataclass(frozen=True, eq=False)
class LoadedLayers:
    """Temporal layers on a wire: the module, and the patcher through which ComfyUI moves it."""

    module: TemporalLayers
    patcher: Any


@dataclass(frozen=True, eq=False)
class InjectedSet:
    """One set of layers in a model, and how much of it is used."""

    layers: LoadedLayers
    strength: Strength


@dataclass(frozen=True, kw_only=True)
class Told:
    """What this pack's own stages tell the layers of the clip that is being denoised."""

    frames: int
    context: ContextFrames | None = None
    rate: int | None = None
    times: Sequence[int] | None = None

    def within(self, window: Any) -> Told:
        """The same for one of core's context windows, which cuts frames out of the batch."""
        if window.total_frames != self.frames:
            raise ValueError(
                f"context windows were laid over {window.total_frames} frames, but the clip has "
                f"{self.frames}; they take one video at a time"
            )
        anchor = getattr(window, "causal_anchor_index", None)
        first = [] if anchor is None or anchor < 0 else [anchor]
        indices = first + list(window.index_list)
        context = self.context
        if context is not None:
            latents, mask = context.latents[:, indices], context.mask[:, indices]
            context = replace(context, latents=latents, mask=mask)
        times = self.times and [self.times[i] for i in indices]
        return replace(self, frames=len(indices), context=context, times=times)


def sets_of(model: Any) -> tuple[InjectedSet, ...]:
    """The sets of layers in a model, in the order in which they act."""
    return model.get_attachment(KEY) or ()


def inject(model: Any, layers: LoadedLayers, strength: Strength) -> Any:
    """A clone of the model with the layers in it; ValueError unless they were made for it."""
    unet = getattr(model.model, "diffusion_model", None)
    if not isinstance(unet, UNetModel):
        raise ValueError(
            f"temporal layers need a U-Net such as Stable Diffusion's, got {type(unet).__name__}"
        )
    have, made_for = unet_layout(model.model.model_config.unet_config), layers.module.spec.layout
    check_layers_fit(made_for, have)
    return _with_sets(model, (*sets_of(model), InjectedSet(layers, strength)), have)


def eject(model: Any) -> Any:
    """A clone without any layers."""
    clone = model.clone()
    for kind in (CALC_COND_BATCH, DIFFUSION_MODEL):
        clone.remove_wrappers_with_key(kind, KEY)
    clone.remove_additional_models(KEY)
    clone.remove_attachments(KEY)
    _take_back_schedule(clone)
    return clone


def _with_sets(model: Any, sets: tuple[InjectedSet, ...], layout: UNetLayout) -> Any:
    clone = eject(model)
    clone.set_attachments(KEY, sets)
    # A set that is in twice is loaded once.
    patchers = {id(one.layers.module): one.layers.patcher for one in sets}
    clone.set_additional_models(KEY, list(patchers.values()))
    clone.add_wrapper_with_key(CALC_COND_BATCH, KEY, fold_frames)
    clone.add_wrapper_with_key(DIFFUSION_MODEL, KEY, TemporalPass(sets, layout))
    brought = [one.layers.module.spec.host.betas for one in sets]
    brought = [betas for betas in brought if betas is not None]
    if brought:
        _bring_schedule(clone, brought[-1])
    return clone


# --------------------------------------------------------------------------------------------------
# Noise levels of layers that were trained with betas of their own.


@dataclass(frozen=True, eq=False)
class BroughtSchedule:
    """Noise levels that layers brought, and the patch of another node that they replaced."""

    sampling: Any
    before: Any = None


def _bring_schedule(clone: Any, betas: Betas) -> None:
    have = clone.get_model_object(SAMPLING)
    schedule = SCHEDULES[betas.name](have.num_timesteps, start=betas.first, end=betas.last)
    sigmas, known = schedule.sigmas.float(), have.sigmas.float().cpu()
    if sigmas.shape == known.shape and torch.allclose(sigmas, known, rtol=1e-4, atol=0):
        return
    # A fresh object: those of the image model, or of another node, are never changed.
    sampling = copy.deepcopy(have)
    if isinstance(sampling, ScheduleSampling):
        sampling.schedule = schedule
    sampling.set_sigmas(sigmas)
    clone.set_attachments(SCHEDULE, BroughtSchedule(sampling, clone.object_patches.get(SAMPLING)))
    clone.add_object_patch(SAMPLING, sampling)


def _take_back_schedule(clone: Any) -> None:
    brought = clone.get_attachment(SCHEDULE)
    clone.remove_attachments(SCHEDULE)
    # What another node set since then stays.
    if brought is None or clone.object_patches.get(SAMPLING) is not brought.sampling:
        return
    del clone.object_patches[SAMPLING]
    if brought.before is not None:
        clone.add_object_patch(SAMPLING, brought.before)


# --------------------------------------------------------------------------------------------------
# One forward pass.


def fold_frames(
    executor: Any, model: Any, conds: Sequence, x: Tensor, timestep: Tensor,
    model_options: dict[str, Any],
) -> list[Tensor]:  # fmt: skip
    """The wrapper that lets a model of images take latents [b, c, t, h, w]: frames as batch.

    It acts before conditions are joined, so that ControlNets, too, see a batch of images.
    """
    if x.ndim != 5:
        return executor(model, conds, x, timestep, model_options)
    videos, frames = len(x), x.shape[2]
    options = comfy.model_patcher.create_model_options_clone(model_options)
    options["transformer_options"][TOLD] = Told(frames=frames)
    folded = [cond and [_folded(one, videos, frames) for one in cond] for cond in conds]
    steps = timestep.repeat_interleave(frames, dim=0)
    results = executor(model, folded, x.transpose(1, 2).flatten(0, 1), steps, options)
    return [one.unflatten(0, (videos, frames)).transpose(1, 2) for one in results]


def _folded(cond: dict[str, Any], videos: int, frames: int) -> dict[str, Any]:
    """A condition whose tensors for every frame, or for every video, are for a batch of frames."""

    def fold(value: Any) -> Any:
        tensor = getattr(value, "cond", None)
        if not isinstance(tensor, Tensor) or len(tensor) != videos:
            return value
        if tensor.ndim == 5:
            return type(value)(tensor.transpose(1, 2).flatten(0, 1))
        return type(value)(tensor.repeat_interleave(frames, dim=0))

    given = cond.get("model_conds", {})
    return {**cond, "model_conds": {name: fold(value) for name, value in given.items()}}


@dataclass(frozen=True, eq=False)
class TemporalPass:
    """The wrapper around a U-Net's forward pass that makes it a video model's.

    The batch holds the frames of as many videos as ComfyUI joined conditions; a `Told` among the
    transformer options says otherwise.
    """

    sets: tuple[InjectedSet, ...]
    layout: UNetLayout

    def __call__(
        self, executor: Any, x: Tensor, timesteps: Tensor, context: Tensor | None, y: Any,
        control: Any, transformer_options: dict[str, Any], **more: Any,
    ) -> Tensor:  # fmt: skip
        told, window = (transformer_options.get(name) for name in (TOLD, "context_window"))
        if told is None:
            together = len(transformer_options.get("cond_or_uncond", ())) or 1
            told = Told(frames=len(x) // together)
            self._warn(told.frames)
        elif window is not None and window.dim == 0:
            told = told.within(window)
        run = _Pass(self.sets, x, context, told)
        if run.puts_in_place:
            x, timesteps = run.put_in_place(x, timesteps)
        with hooked(executor.class_obj, self.layout, run):
            return executor(x, timesteps, context, y, control, transformer_options, **more)

    def _warn(self, frames: int) -> None:
        """Of what core's samplers do; our own stages have warned before they began."""
        from .host import host

        used = [one.layers.module.spec for one in self.sets if not one.strength.off]
        for sentence in core_sampler_warnings(layers_known(used), frames):
            host.warn(sentence)


class _Pass:
    """One forward pass on [(b t), c, h, w]; it knows the time embedding once the U-Net does."""

    def __init__(self, sets: Sequence[InjectedSet], x: Tensor, text: Tensor | None, told: Told):
        if len(x) % told.frames:
            raise ValueError(f"a batch of {len(x)} frames cannot hold clips of {told.frames}")
        # Switched off as a whole, a set leaves the image model as it was in everything.
        self.sets = [one for one in sets if not one.strength.off]
        self.x, self.text = x, text
        self.frames, self.context, self.rate = told.frames, told.context, told.rate
        self.times = None if told.times is None else torch.as_tensor(told.times, device=x.device)
        self.embedding: Tensor | None = None  # [(b t), e]

    @property
    def videos(self) -> int:
        return len(self.x) // self.frames

    @property
    def host_changes(self) -> list[HostChanges]:
        return [one.layers.module.spec.host for one in self.sets]

    @property
    def sites(self) -> dict[str, None]:
        """Every site at which a layer of any set acts, each once."""
        return {site: None for one in self.sets for site in one.layers.module.spec.sites}

    def add_embedding(self, part: Tensor) -> None:
        """Take in a part of the U-Net's time embedding [(b t), e]."""
        self.embedding = part if self.embedding is None else self.embedding + part

    @cached_property
    def told(self) -> list[SetInputs]:
        """What each set is told; first asked for at the first site, after the time embedding."""
        text = None if self.text is None else self.text[:: self.frames]
        embedding = self.embedding.unflatten(0, (self.videos, self.frames))
        embedding = embedding if self.puts_in_place else embedding[:, 0]
        return [
            one.layers.module.prepare(
                embedding,
                self.frames,
                context=self._context(one.layers.module), rate=self._rate(one.layers.module),
                text=text, times=self.times,
            )
            for one in self.sets
        ]  # fmt: skip

    def _context(self, layers: TemporalLayers) -> ContextFrames | None:
        """Layers that know given frames have always been told in training: so also of none."""
        if layers.context is None:
            return None
        if self.context is None:
            height, width = self.x.shape[-2:]
            shape = self.videos, self.frames, layers.spec.context.channels, height, width
            return no_context(shape, self.x.device)
        return self._given(self.context)

    def _given(self, context: ContextFrames) -> ContextFrames:
        """The given frames once more for each condition that ComfyUI joined in the batch."""
        again = self.videos // len(context.latents)

        def spread(value: Tensor) -> Tensor:
            return value.to(self.x.device).repeat(again, *[1] * (value.ndim - 1))

        return ContextFrames(
            latents=spread(context.latents),
            mask=spread(context.mask),
            noise_level=spread(context.noise_level),
        )

    @property
    def puts_in_place(self) -> bool:
        """Whether given frames also stand in the network's own input, each at its own step."""
        known = self.context is not None
        return known and any(one.layers.module.puts_context_in_place for one in self.sets)

    def put_in_place(self, x: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """The network's input [(b t), c, h, w] and steps [(b t)] with the given frames in them."""
        context = self._given(self.context)
        channels = context.latents.shape[2]
        clips, steps = (one.unflatten(0, (-1, self.frames)) for one in (x, timesteps))
        # Behind the latents stand what inpainting models and their like are given besides.
        latents, steps = in_place(clips[:, :, :channels], steps[:, 0], context)
        both = torch.cat([latents, clips[:, :, channels:]], dim=2)
        return both.flatten(0, 1), steps.flatten()

    def _rate(self, layers: TemporalLayers) -> Tensor | None:
        known = layers.spec.rates
        if not known:
            return None
        rate = self.rate or 0
        if not 0 <= rate < known:
            raise ValueError(f"the frame-rate class {rate} must lie in 0 .. {known - 1}")
        return torch.full((self.videos,), rate, device=self.x.device)

    def run(self, site: str, h: Tensor, place: BlockPlace | None = None) -> Tensor:
        """Hand h to every set's layer at the site, in a transformer block to those at the place."""
        for one, told in zip(self.sets, self.told, strict=True):
            if one.layers.module.acts_at(site, place):
                h = one.layers.module.run(site, h, told, one.strength.at(site))
        return h
