"""The reference window of `core.networks.reference` in a ComfyUI MODEL.

A patch of self-attention records and reads it. In our samplers, `core` evaluates the window; in
ComfyUI's, a wrapper does before its context windows, at every step in which it acts.
"""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import comfy.model_patcher
import comfy.patcher_extension
import comfy.samplers
import torch
from comfy.context_windows import IndexListCallbacks, IndexListContextWindow
from torch import Tensor

from ....core.networks.reference import ReferenceBank, ReferenceUse, ReferenceWindow
from ..shared.misfits import REFERENCE_WITHOUT_WINDOWS
from .attached import attach
from .free_init import HANDLER
from .layers import FRAME_BATCH
from .steps import count_steps, step_at

KEY = REFERENCE = "videoldm_reference"
"""The key of the wrapper and the attachment, and of a `ReferenceUse` in the transformer options."""
BEGIN, EVALUATE = IndexListCallbacks.EXECUTE_START, IndexListCallbacks.EVALUATE_CONTEXT_WINDOWS
PREDICT = comfy.patcher_extension.WrappersMP.PREDICT_NOISE


def with_reference(model: Any, reference: ReferenceWindow) -> Any:
    """A clone whose windows also attend to a reference window."""
    clone = model.clone()
    if reference_of(model) is None:
        clone.set_model_attn1_patch(attend_to_reference)
    attach(clone, PREDICT, KEY, reference, ReferencePass(reference))
    count_steps(clone)
    return clone


def reference_of(model: Any) -> ReferenceWindow | None:
    return model.get_attachment(KEY)


def attend_to_reference(
    n: Tensor, context: Tensor, value: Tensor, options: dict[str, Any]
) -> tuple[Tensor, Tensor, Tensor]:
    """The attn1 patch: keys and values also come from the reference, for each joined condition."""
    use = options.get(REFERENCE)
    if use is None:
        return n, context, value
    place = (*(options.get("block") or ()), options.get("block_index", 0))
    conditions = options.get("cond_or_uncond") or [0]
    batch, seen, more = options.get(FRAME_BATCH), Counter(), []
    for index, part in zip(conditions, n.chunk(len(conditions)), strict=True):
        own = use.of_branch(seen[index], is_negative=index != 0)
        seen[index] += 1
        found = own.extra_tokens(place, part, len(part) if batch is None else batch.frames)
        # Attending to a frame's own tokens twice changes nothing.
        more.append(part if found is None else found)
    if use.records or not use.bank.kept:
        return n, context, value
    extra = torch.cat(more)
    return n, torch.cat([context, extra], dim=1), torch.cat([value, extra], dim=1)


@dataclass(frozen=True)
class ReferencePass:
    """The wrapper around a guider's evaluation: ComfyUI's context windows get callbacks that
    evaluate the reference window first and let the others read it."""

    reference: ReferenceWindow

    def __call__(
        self, executor: Any, x: Tensor, timestep: Tensor,
        model_options: dict[str, Any] | None = None, *more: Any, **named: Any,
    ) -> Tensor:  # fmt: skip
        options = model_options or {}
        handler = options.get(HANDLER)
        ours = FRAME_BATCH in options.get("transformer_options", {})
        if handler is not None and not ours:
            options = {**options, HANDLER: _reading(handler, self.reference)}
        elif not ours:
            _warn()
        return executor(x, timestep, options, *more, **named)


def _warn() -> None:
    from .host import host

    host.warn(REFERENCE_WITHOUT_WINDOWS)


def _reading(handler: Any, reference: ReferenceWindow) -> Any:
    """A copy of ComfyUI's window handler with the callbacks; other samplers share the original."""
    own = copy.copy(handler)
    own.callbacks = comfy.patcher_extension.copy_nested_dicts(handler.callbacks)
    reads = ReferenceUse(bank=ReferenceBank(), settings=reference)

    def begin(
        handler: Any, model: Any, x: Tensor, conds: list, timestep: Tensor, options: dict[str, Any]
    ) -> None:
        step = step_at(options["transformer_options"])
        if step is not None and reference.acts(step):
            planned = reference.planned(x.shape[handler.dim], handler.context_length)
            _evaluate(handler, model, planned, (x, conds, timestep), _recording(options, reads))

    def let_read(
        handler: Any, model: Any, x: Tensor, conds: list, timestep: Tensor,
        options: dict[str, Any], index: int, window: Any, *more: Any,
    ) -> None:  # fmt: skip
        anchor = getattr(window, "causal_anchor_index", None)
        lead = 1 if anchor is not None and anchor >= 0 else 0
        planned = reference.planned(x.shape[handler.dim], handler.context_length)
        alone = tuple(window.index_list) == planned
        options["transformer_options"][REFERENCE] = None if alone else replace(reads, lead=lead)

    for kind, callback in ((BEGIN, begin), (EVALUATE, let_read)):
        comfy.patcher_extension.add_callback_with_key(kind, KEY, callback, own.callbacks)
    return own


def _recording(options: dict[str, Any], reads: ReferenceUse) -> dict[str, Any]:
    """Options for evaluating the reference window itself: recording, and without windows."""
    own = comfy.model_patcher.create_model_options_clone(options)
    own["transformer_options"][REFERENCE] = replace(reads, records=True)
    del own[HANDLER]
    return own


def _evaluate(
    handler: Any, model: Any, planned: tuple[int, ...], video: tuple[Tensor, list, Tensor],
    options: dict[str, Any],
) -> None:  # fmt: skip
    """Evaluate the reference window of a video with its conditions, only to record attention."""
    x, conds, timestep = video
    total = x.shape[handler.dim]
    window = IndexListContextWindow(list(planned), dim=handler.dim, total_frames=total)
    conds = [handler.get_resized_cond(cond, x, window) for cond in conds]
    options["transformer_options"]["context_window"] = window
    part, levels = window.get_tensor(x), window.get_tensor(timestep, dim=0)
    comfy.samplers.calc_cond_batch(model, conds, part, levels, options)
