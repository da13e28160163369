"""LoRAs with a strength that changes over frames and steps, in a ComfyUI MODEL.

A wrapper around the U-Net's forward pass registers hooks on the modules that a LoRA changes, for
that pass only. No weights are patched, so none have to be swapped between steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.patcher_extension
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor, device, nn

from ....core import families
from ....core.diffusion.curves import Curve
from ....core.families.image_models import unet_table
from ....core.families.known_models import IMAGE_MODELS
from ....core.families.lora import beside, read_lora
from ....core.networks.weight_updates import Frames, Scheduled, WeightUpdates, updated
from .attached import attach
from .layers import LoadedLayers, frame_batch
from .model import unet_layout
from .steps import count_steps, step_at

KEY = "videoldm_updates"
"""The key of the wrapper, the additional models and the attachment in a ModelPatcher."""
DIFFUSION_MODEL = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL


@dataclass(frozen=True, eq=False)
class LoadedUpdates:
    """A LoRA with its strength, and the patcher by which ComfyUI moves it."""

    scheduled: Scheduled
    patcher: Any


def with_lora(model: Any, path: Path, strength: Curve) -> Any:
    """A clone of the model with one more LoRA on its modules."""
    unet = getattr(model.model, "diffusion_model", None)
    if not isinstance(unet, UNetModel):
        raise ValueError(
            f"a scheduled LoRA goes into {IMAGE_MODELS}, but the model is of another kind "
            f"({type(unet).__name__})"
        )
    patcher = _patcher(path, dict(model.model.model_config.unet_config), unet)
    loaded = (*(model.get_attachment(KEY) or ()),
              LoadedUpdates(Scheduled(patcher.model, strength), patcher))  # fmt: skip
    clone = model.clone()
    clone.set_additional_models(KEY, [one.patcher for one in loaded])
    scheduled = tuple(one.scheduled for one in loaded)
    attach(clone, DIFFUSION_MODEL, KEY, loaded, UpdatePass(scheduled))
    if any(one.strength.reads_steps for one in scheduled):
        count_steps(clone)
    return clone


def _patcher(
    path: Path, config: Mapping[str, Any], unet: nn.Module | None = None,
    disable_dynamic: bool = False,
) -> Any:  # fmt: skip
    """A patcher of a file's LoRA for a U-Net of this configuration."""
    if unet is None:
        shapes = dict(config) | {"device": device("meta")}
        shapes.pop("disable_unet_model_creation", None)
        unet = UNetModel(**shapes, operations=comfy.ops.disable_weight_init)
    patcher = _patcher_of(_updates(path, config, unet), disable_dynamic)
    patcher.cached_patcher_init = _patcher, (path, config)
    return patcher


def _updates(path: Path, config: Mapping[str, Any], unet: nn.Module) -> WeightUpdates:
    names = {new: old for old, new in unet_table(unet_layout(config)).items()}
    return beside(unet, read_lora(path), names, path.name, comfy.ops.manual_cast)


def with_motion_lora(layers: LoadedLayers, path: Path, strength: Curve) -> LoadedLayers:
    """The layers with one more LoRA on them."""
    patcher = _motion_patcher(path, layers.patcher)
    module = layers.module.with_updates([Scheduled(patcher.model, strength)])
    return replace(layers, module=module, more=(*layers.more, patcher))


def _motion_patcher(path: Path, layers: Any, disable_dynamic: bool = False) -> Any:
    """A patcher of a file's LoRA for the temporal layers in the patcher `layers`."""
    updates = families.load_layer_updates(path, layers.model, comfy.ops.manual_cast)
    patcher = _patcher_of(updates, disable_dynamic)
    patcher.cached_patcher_init = _motion_patcher, (path, layers)
    return patcher


def _patcher_of(module: nn.Module, disable_dynamic: bool) -> Any:
    manager, kind = comfy.model_management, comfy.model_patcher.CoreModelPatcher
    return (comfy.model_patcher.ModelPatcher if disable_dynamic else kind)(
        module, load_device=manager.get_torch_device(), offload_device=manager.unet_offload_device()
    )


@dataclass(frozen=True, eq=False)
class UpdatePass:
    """The wrapper around a U-Net's forward pass that applies LoRAs."""

    scheduled: tuple[Scheduled, ...]

    def __call__(
        self, executor: Any, x: Tensor, timesteps: Tensor, context: Tensor | None, y: Any,
        control: Any, transformer_options: dict[str, Any], **more: Any,
    ) -> Tensor:  # fmt: skip
        batch = frame_batch(x, transformer_options)
        numbers = batch.conditions.numbers(batch.frames)
        frames = Frames(numbers, len(x) // batch.frames, step_at(transformer_options))
        with updated(executor.class_obj, self.scheduled, frames):
            return executor(x, timesteps, context, y, control, transformer_options, **more)
