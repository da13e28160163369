"""The per-frame conditions of ComfyUI's own samplers, selected for the frames of one evaluation.

Prompts of segments become one prompt per frame; images of ControlNets and of other packs' layers
follow the absolute frame numbers when context windows cut frames out of a video.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..shared.conditioning import BLEND, FRAMES, OF_FRAMES, for_frames, span_of

OTHERS = "ad_params"
"""The transformer option in which layers of other packs, such as image prompts, look up the frames
of an evaluation."""
BY_FRAME = "images_by_frame"
"""An attribute of ControlNets that match their images to frames themselves."""
PER_FRAME = ("c_crossattn", "y")
"""Model conditions that come from a prompt: its tokens, and the vector with its pooled text."""


def numbers_of(frames: int, window: Any) -> tuple[list[int], int]:
    """The absolute numbers of the frames of an evaluation, and how many the video has; `window` is
    one of ComfyUI's context windows, or None."""
    if window is None:
        return list(range(frames)), frames
    anchor = getattr(window, "causal_anchor_index", None)
    first = [] if anchor is None or anchor < 0 else [anchor]
    return first + list(window.index_list), window.total_frames


def note_frames(options: dict[str, Any], numbers: Sequence[int], total: int) -> None:
    """Tell other packs, in the transformer options, which frames an evaluation has."""
    within = {"sub_idxs": list(numbers), "full_length": total, "context_length": len(numbers)}
    options[OTHERS] = within


def conditions_for(
    conds: Sequence[list[dict] | None], numbers: Sequence[int], *, windowed: bool
) -> list[list[dict] | None]:
    """The conditions for the frames of these absolute numbers.

    windowed: the frames are cut out of a longer video, and ControlNets hold images for all of it.
    """
    copies: dict[int, Any] = {}  # A ControlNet that both prompts share is still evaluated once.
    return [cond and _for_frames(cond, numbers, copies if windowed else None) for cond in conds]


def _for_frames(
    cond: list[dict], numbers: Sequence[int], copies: dict[int, Any] | None
) -> list[dict]:
    if any(FRAMES in one for one in cond):
        cond = [_travelling(cond, numbers)]
    if copies is None:
        return cond
    return [
        {**one, "control": _control(one["control"], numbers, copies)} if one.get("control") else one
        for one in cond
    ]


def _travelling(cond: list[dict], numbers: Sequence[int]) -> dict:
    """Prompts with ranges of frames as one condition with a prompt per frame."""
    first, spans = cond[0], [span_of(one) for one in cond]
    given = dict(first["model_conds"])
    for name in PER_FRAME:
        if name in given:
            values = [one["model_conds"][name].cond[:1] for one in cond]
            tokens = name == PER_FRAME[0]
            blend = first.get(BLEND) if tokens else None
            mixed = for_frames(values, spans, numbers, tokens=tokens, blend=blend)
            given[name] = type(given[name])(_rows(mixed, values[0]))
    kept = {key: one for key, one in first.items() if key not in OF_FRAMES}
    return kept | {"model_conds": given}


def _rows(value: Tensor, like: Tensor) -> Tensor:
    """[1, t, ...] as a batch of frames [t, ...]; a value that all frames share stays [1, ...]."""
    return value[0] if value.ndim > like.ndim else value


def _control(control: Any, numbers: Sequence[int], copies: dict[int, Any]) -> Any:
    """A ControlNet, and those before it, with the images of these frames; too few images repeat, as
    they do without windows. Other packs' ControlNets with `sub_idxs` select their own."""
    if id(control) in copies:
        return copies[id(control)]
    if hasattr(control, "sub_idxs"):
        return control
    # Not its own `copy`: this one is already running, and keeps its timestep range and weights.
    own = copies[id(control)] = copy.copy(control)
    own.cond_hint, own.extra_concat = None, None
    if not getattr(control, BY_FRAME, False):
        own.cond_hint_original = _images(control.cond_hint_original, numbers)
    own.extra_concat_orig = [_images(one, numbers) for one in control.extra_concat_orig]
    if control.previous_controlnet is not None:
        own.previous_controlnet = _control(control.previous_controlnet, numbers, copies)
    own.multigpu_clones = {device: _control(one, numbers, copies)
                           for device, one in control.multigpu_clones.items()}  # fmt: skip
    return own


def _images(images: Tensor | None, numbers: Sequence[int]) -> Tensor | None:
    if images is None or len(images) < 2:
        return images
    return images[[number % len(images) for number in numbers]]
