"""The CONDITIONING of a segment for ComfyUI's guider, from the prompts of a whole video."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from ....core.tasks.segment import SegmentCondition
from ..shared.conditioning import OF_FRAMES, branches, hint_indices, pooled_for, text_for
from ..shared.start_image import continued
from .frame_conditions import BY_FRAME
from .model import LOW_RES, NOISE_LEVEL

Prompts = dict[str, list]
"""CONDITIONINGs by a guider's names for them, "positive" and "negative"."""


@dataclass(frozen=True)
class SegmentPrompts:
    """The prompts of a whole video. unscaled: scaled latents [b c h w] to raw ones, for context
    frames that become a segment's start image; None if the model animates none."""

    positive: Sequence
    negative: Sequence
    unscaled: Callable[[Tensor], Tensor] | None = None

    @property
    def by_name(self) -> Prompts:
        return {"positive": self.positive, "negative": self.negative}

    def whole(self, condition: SegmentCondition, shape: Sequence[int]) -> Prompts:
        """All entries, whatever their frames: ComfyUI registers hooks and loads ControlNets only of
        the prompts that it gets before sampling begins. `condition` is that of any segment, `shape`
        that of its latents [b t c h w]."""
        extra = _extra(condition, shape)
        return {
            name: [[text, {**_without_frames(more), **extra}] for text, more in prompt]
            for name, prompt in self.by_name.items()
        }

    def of_segment(self, condition: SegmentCondition) -> Prompts:
        """One entry per prompt for the frames of a segment; tokens [1 n d], or [1 t n d] if the
        frames differ."""
        copies: dict[int, Any] = {}  # A ControlNet that both prompts share is evaluated once.
        frames = condition.frames
        return {
            name: [[text_for(one, frames), self._started(_options(one, frames, copies), condition)]
                   for one in branches(prompt)]
            for name, prompt in self.by_name.items()
        }  # fmt: skip

    def _started(self, options: dict[str, Any], condition: SegmentCondition) -> dict[str, Any]:
        if self.unscaled is None:
            return options
        return continued(options, condition, self.unscaled)


def for_batch(prompts: Prompts, condition: SegmentCondition, shape: Sequence[int]) -> Prompts:
    """The prompts of a segment for a batch of images [(b t) c h w]; shape: [b t c h w]."""
    extra, videos = _extra(condition, shape), shape[0]

    def folded(text: Tensor | None) -> Tensor | None:
        if text is None or text.ndim < 4:
            return text
        return rearrange(text.expand(videos, -1, -1, -1), "b t n d -> (b t) n d")

    return {
        name: [[folded(text), {**more, **extra}] for text, more in prompt]
        for name, prompt in prompts.items()
    }


def _extra(condition: SegmentCondition, shape: Sequence[int]) -> dict[str, Tensor]:
    """The concatenated latents and their noise step, per image; see `VideoLDMModel`."""
    extra: dict[str, Tensor] = {}
    if condition.concatenated is not None:
        extra[LOW_RES] = rearrange(condition.concatenated, "b t c h w -> (b t) c h w")
    if condition.noise_level is not None:
        extra[NOISE_LEVEL] = torch.full((shape[0] * shape[1],), condition.noise_level)
    return extra


def _without_frames(more: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in more.items() if key not in OF_FRAMES}


def _options(
    conditioning: Sequence, frames: Sequence[int], copies: dict[int, Any]
) -> dict[str, Any]:
    """The prompt's other entries (ControlNets, masks, areas, ...), from its first entry, and its
    pooled text; per-frame values of the whole video are selected for the segment's frames."""
    given = _without_frames(conditioning[0][1])
    pooled = pooled_for(conditioning, frames)
    if pooled is not None:
        given["pooled_output"] = pooled if pooled.ndim < 3 else pooled[0]
    mask = given.get("mask")
    if mask is not None and mask.ndim > 2 and len(mask) > 1:
        given["mask"] = mask[hint_indices(len(mask), frames)]
    if given.get("control") is not None:
        given["control"] = _control_for(given["control"], frames, copies)
    return given


def _control_for(control: Any, frames: Sequence[int], copies: dict[int, Any]) -> Any:
    """A ControlNet, those before it and its clones on other GPUs, with the hints of the segment's
    frames."""
    if id(control) in copies:
        return copies[id(control)]
    copy = copies[id(control)] = control.copy()
    hints = control.cond_hint_original
    if hints is not None and len(hints) > 1 and not getattr(control, BY_FRAME, False):
        copy.cond_hint_original = hints[hint_indices(len(hints), frames)]
    if control.previous_controlnet is not None:
        copy.set_previous_controlnet(_control_for(control.previous_controlnet, frames, copies))
    clones = getattr(control, "multigpu_clones", None)
    if clones:
        copy.multigpu_clones = {
            device: _control_for(clone, frames, copies) for device, clone in clones.items()
        }
    return copy
