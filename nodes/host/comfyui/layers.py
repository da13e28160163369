"""Temporal layers in a ComfyUI MODEL.

Nothing in the image U-Net is replaced, as clones of a model share it. A wrapper around its forward
pass registers forward hooks on modules that layers sit in or after, for that pass only; without the
wrapper it is the image model bit for bit. ComfyUI loads the layers as additional models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import comfy.model_patcher
import comfy.patcher_extension
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor

from ....core.families.known_models import IMAGE_MODELS
from ....core.networks.conditions import Conditions, frame_rate_ids
from ....core.networks.injected_sets import InjectedSets, Injection, LayerPass
from ....core.networks.sites import UNetLayout
from ....core.networks.temporal_layers import Strength, TemporalLayers
from ..shared.layer_facts import warnings_of_core_sampler
from ..shared.misfits import check_image_frames, check_layers_fit, check_strength_fits
from ..shared.setup_warnings import CoreRun, is_distilled
from ..shared.steering import Misfit, why_not
from .frame_conditions import conditions_for, note_frames, numbers_of
from .model import schedule_of, unet_layout
from .noise_levels import with_schedule
from .steps import count_steps, run_of, step_at
from .unet_hooks import hooked

KEY = "videoldm"
"""The key of the wrappers, the additional models and the attachment in a ModelPatcher."""
SCHEDULE, SAMPLING = "videoldm_schedule", "model_sampling"
"""The attachment for noise levels that the layers bring, and the model's object that holds them."""
FRAME_BATCH = "videoldm"
"""The key of a `FrameBatch` in the transformer options."""
CALC_COND_BATCH = comfy.patcher_extension.WrappersMP.CALC_COND_BATCH
DIFFUSION_MODEL = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL


@dataclass(frozen=True, eq=False)
class LoadedLayers:
    """Temporal layers on a wire: the module, and the patcher by which ComfyUI moves it. more: the
    patchers of modules that act with the layers, such as LoRAs."""

    module: TemporalLayers
    patcher: Any
    more: tuple[Any, ...] = ()

    @property
    def patchers(self) -> tuple[Any, ...]:
        return self.patcher, *self.more


@dataclass(frozen=True, eq=False)
class InjectedSet:
    """One set of layers in a model, and the settings of its use."""

    layers: LoadedLayers
    use: Injection

    @property
    def strength(self) -> Strength:
        return self.use.strength

    def used(self, layers: LoadedLayers | None = None, **options: Any) -> InjectedSet:
        """The same or other layers, with some settings changed."""
        layers = layers or self.layers
        return InjectedSet(layers, replace(self.use, layers=layers.module, **options))


@dataclass(frozen=True, kw_only=True)
class FrameBatch:
    """The frames in a batch of images: how many make a video, and the conditions that this pack's
    own stages add for each video (context frames, frame rate, times)."""

    frames: int
    conditions: Conditions = Conditions()

    def within(self, window: Any) -> FrameBatch:
        """The same for one of ComfyUI's context windows, which cuts frames out of the batch."""
        if window.total_frames != self.frames:
            raise ValueError(
                f"the context windows cover {window.total_frames} frames, but the video has "
                f"{self.frames}; they take one video at a time"
            )
        indices, _ = numbers_of(self.frames, window)
        context, times = self.conditions.context, self.conditions.times
        conditions = replace(
            self.conditions,
            context=None if context is None else context.at(indices),
            times=None if times is None else times[indices],
            frames=tuple(self.conditions.numbers(self.frames)[k] for k in indices),
        )
        return FrameBatch(frames=len(indices), conditions=conditions)


def sets_of(model: Any) -> tuple[InjectedSet, ...]:
    """The sets of layers in a model, in the order in which they act."""
    return model.get_attachment(KEY) or ()


def core_sets(sets: Sequence[InjectedSet]) -> InjectedSets:
    """The sets as core's class."""
    return InjectedSets([one.use for one in sets])


def inject(model: Any, layers: LoadedLayers, strength: Strength, **options: Any) -> Any:
    """A clone of the model with the layers injected; ValueError unless they fit it. options: of
    `Host.inject`."""
    unet = getattr(model.model, "diffusion_model", None)
    if not isinstance(unet, UNetModel):
        raise ValueError(
            f"temporal layers go into {IMAGE_MODELS}, but the model is of another kind "
            f"({type(unet).__name__})"
        )
    have = unet_layout(model.model.model_config.unet_config)
    check_layers_fit(layers.module.spec, have)
    check_strength_fits(strength, layers.module.spec)
    check_image_frames(options.get("image_frames", ()), layers.module.spec)
    use = Injection(layers.module, strength, **options)
    return _with_sets(model, (*sets_of(model), InjectedSet(layers, use)), have)


def steered(model: Any, misfit: Misfit, change: Callable[[InjectedSet], InjectedSet]) -> Any:
    """A clone with the last suitable set changed; the ValueError if there is none says why."""
    sets = sets_of(model)
    fitting = [k for k, one in enumerate(sets) if not misfit(one.use)]
    if not fitting:
        raise ValueError(why_not(core_sets(sets), misfit))
    changed = tuple(change(one) if k == fitting[-1] else one for k, one in enumerate(sets))
    return _with_sets(model, changed, unet_layout(model.model.model_config.unet_config))


def eject(model: Any) -> Any:
    """A clone without any of our layers."""
    clone = model.clone()
    for kind in (CALC_COND_BATCH, DIFFUSION_MODEL):
        clone.remove_wrappers_with_key(kind, KEY)
    clone.remove_additional_models(KEY)
    clone.remove_attachments(KEY)
    _take_back_schedule(clone)
    return clone


def _asks_for_steps(one: InjectedSet) -> bool:
    """Whether the set depends on the sampler's steps, or was distilled to few of them."""
    module = one.layers.module
    changes = one.strength.reads_steps or module.update_steps
    return changes or is_distilled(module.spec.trained.family)


def _with_sets(model: Any, sets: tuple[InjectedSet, ...], layout: UNetLayout) -> Any:
    clone = eject(model)
    clone.set_attachments(KEY, sets)
    # Layers that are injected twice are loaded once.
    patchers = {id(patcher): patcher for one in sets for patcher in one.layers.patchers}
    clone.set_additional_models(KEY, list(patchers.values()))
    clone.add_wrapper_with_key(CALC_COND_BATCH, KEY, fold_frames)
    clone.add_wrapper_with_key(DIFFUSION_MODEL, KEY, TemporalPass(core_sets(sets), layout))
    if any(_asks_for_steps(one) for one in sets):
        count_steps(clone)
    _bring_schedule(clone, core_sets(sets))
    return clone


# --------------------------------------------------------------------------------------------------
# Noise levels of layers that were trained with their own betas.


@dataclass(frozen=True, eq=False)
class BroughtSchedule:
    """Noise levels that the layers brought, and another node's patch that they replaced."""

    sampling: Any
    before: Any = None


def _bring_schedule(clone: Any, sets: InjectedSets) -> None:
    if sets.betas is None:
        return
    own, have = schedule_of(clone), clone.get_model_object(SAMPLING)
    schedule = sets.schedule(own)
    if schedule is own:
        return
    # A new object: that of the image model, or of another node, is never changed.
    sampling = with_schedule(have, schedule)
    clone.set_attachments(SCHEDULE, BroughtSchedule(sampling, clone.object_patches.get(SAMPLING)))
    clone.add_object_patch(SAMPLING, sampling)


def _take_back_schedule(clone: Any) -> None:
    brought = clone.get_attachment(SCHEDULE)
    clone.remove_attachments(SCHEDULE)
    # Keep what another node has set since.
    if brought is None or clone.object_patches.get(SAMPLING) is not brought.sampling:
        return
    del clone.object_patches[SAMPLING]
    if brought.before is not None:
        clone.add_object_patch(SAMPLING, brought.before)


# --------------------------------------------------------------------------------------------------
# One forward pass.


def fold_frames(
    executor: Any, model: Any, conds: Sequence, x: Tensor, timestep: Tensor,
    model_options: dict[str, Any], **more: Any,
) -> list[Tensor]:  # fmt: skip
    """The wrapper that folds latents [b, c, t, h, w] into a batch of frames for an image model.

    It acts before conditions are joined, so that ControlNets see a batch of images, too, and
    selects the conditions of each frame.
    """
    options = comfy.model_patcher.create_model_options_clone(model_options)
    own, is_video = options["transformer_options"], x.ndim == 5
    videos, frames = (len(x), x.shape[2]) if is_video else (1, len(x))
    if is_video:
        own[FRAME_BATCH] = FrameBatch(frames=frames)
        conds = [cond and [_folded(one, videos, frames) for one in cond] for cond in conds]
        x, timestep = x.transpose(1, 2).flatten(0, 1), timestep.repeat_interleave(frames, dim=0)
    ours, window = own.get(FRAME_BATCH), own.get("context_window")
    if is_video or ours is None or window is not None:
        numbers, total = numbers_of(frames, window)
        note_frames(own, numbers, total)
        conds = conditions_for(conds, numbers, windowed=window is not None)
    results = executor(model, conds, x, timestep, options, **more)
    if not is_video:
        return results
    return [one.unflatten(0, (videos, frames)).transpose(1, 2) for one in results]


def _folded(cond: dict[str, Any], videos: int, frames: int) -> dict[str, Any]:
    """A condition with tensors [b, c, t, h, w] folded, and those [b, ...] repeated per frame."""

    def fold(value: Any) -> Any:
        tensor = getattr(value, "cond", None)
        if not isinstance(tensor, Tensor) or len(tensor) != videos:
            return value
        if tensor.ndim == 5:
            return type(value)(tensor.transpose(1, 2).flatten(0, 1))
        return type(value)(tensor.repeat_interleave(frames, dim=0))

    given = cond.get("model_conds", {})
    return {**cond, "model_conds": {name: fold(value) for name, value in given.items()}}


def frame_batch(x: Tensor, options: dict[str, Any]) -> FrameBatch:
    """The frames in a U-Net's batch x, according to the transformer options; in one of ComfyUI's
    context windows, with their numbers in the whole video."""
    batch, window = (options.get(name) for name in (FRAME_BATCH, "context_window"))
    within = window is not None and window.dim == 0
    if batch is None:
        together = len(options.get("cond_or_uncond", ())) or 1
        batch = FrameBatch(frames=window.total_frames if within else len(x) // together)
    return batch.within(window) if within else batch


@dataclass(frozen=True, eq=False)
class TemporalPass:
    """The wrapper around a U-Net's forward pass in which the temporal layers act.

    Without a `FrameBatch` in the transformer options, the batch holds one video per condition that
    ComfyUI joined.
    """

    sets: InjectedSets
    layout: UNetLayout

    def __call__(
        self, executor: Any, x: Tensor, timesteps: Tensor, context: Tensor | None, y: Any,
        control: Any, transformer_options: dict[str, Any], **more: Any,
    ) -> Tensor:  # fmt: skip
        batch = frame_batch(x, transformer_options)
        if FRAME_BATCH not in transformer_options:
            self._warn(batch.frames, run_of(transformer_options))
        if len(x) % batch.frames:
            raise ValueError(f"a batch of {len(x)} frames cannot hold segments of {batch.frames}")
        shape = (len(x) // batch.frames, batch.frames, *x.shape[1:])
        conditions = self._conditions(batch, x, context)
        conditions = replace(conditions, step=step_at(transformer_options))
        act = LayerPass(self.sets, conditions, shape, x.device)
        videos, steps = (one.unflatten(0, shape[:2]) for one in (x, timesteps))
        videos, steps = act.put_context_in_place(videos, steps)
        x, timesteps = videos.flatten(0, 1), steps.flatten()
        with hooked(executor.class_obj, self.layout, act):
            return executor(x, timesteps, context, y, control, transformer_options, **more)

    def _warn(self, frames: int, run: CoreRun) -> None:
        """Warn about ComfyUI's own samplers; our stages have already warned before they began."""
        from .host import host

        for sentence in warnings_of_core_sampler(self.sets, frames, run):
            host.warn(sentence)

    def _conditions(self, batch: FrameBatch, x: Tensor, text: Tensor | None) -> Conditions:
        """The conditions that the layers read, repeated for each that ComfyUI joined."""
        videos = len(x) // batch.frames
        given = batch.conditions.to(x.device, x.dtype)
        context = given.context
        if context is not None:
            context = context.repeated(videos // len(context.latents))
        usual = frame_rate_ids(self.sets.ids, None)
        ids = {name: value.to(x.device) for name, value in usual.items()} | dict(given.ids)
        text = None if text is None else text[:: batch.frames]
        return replace(given, text=text, context=context, ids=ids).for_videos(videos)
