"""ComfyUI's ControlNets with a strength that changes over frames and steps."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from einops import repeat
from torch import Tensor

from ....core.diffusion.curves import Curve
from .layers import frame_batch
from .steps import step_at

CONTROL = "control"
"""ComfyUI's key of a ControlNet in a CONDITIONING."""


class CurvedControl:
    """A mixin before a class of ControlNets, whose outputs it multiplies by a curve."""

    curve: Curve
    under_way: tuple[Sequence[int], int, Any]

    def get_control(
        self, x_noisy: Tensor, t: Tensor, cond: Any, batched_number: int,
        transformer_options: dict[str, Any], **more: Any,
    ) -> Any:  # fmt: skip
        batch, given = frame_batch(x_noisy, transformer_options), transformer_options
        numbers, step = batch.conditions.numbers(batch.frames), step_at(given)
        self.under_way = numbers, len(x_noisy) // batch.frames, step
        if not any(self.curve.at(frame, step) for frame in numbers):
            before = self.previous_controlnet
            return before and before.get_control(x_noisy, t, cond, batched_number, given, **more)
        return super().get_control(x_noisy, t, cond, batched_number, given, **more)

    def control_merge(self, control: Any, control_prev: Any, output_dtype: Any) -> Any:
        # One tensor may be the output at several places, and is then multiplied only once.
        given = {id(one): one for answers in control.values() for one in answers if one is not None}
        weighted = {key: self._weighted(one) for key, one in given.items()}
        control = {
            name: [None if one is None else weighted[id(one)] for one in answers]
            for name, answers in control.items()
        }
        return super().control_merge(control, control_prev, output_dtype)

    def _weighted(self, answer: Tensor) -> Tensor:
        numbers, videos, step = self.under_way
        amount = self.curve.amount(numbers, step, tuple(answer.shape[-2:]))
        if isinstance(amount, Tensor):
            amount = repeat(amount, "t h w -> (b t) 1 h w", b=videos).to(answer)
        return answer * amount

    def copy(self) -> Any:
        return curved(super().copy(), self.curve)


def curved(control: Any, curve: Curve) -> Any:
    """The ControlNet, changed in place so that its outputs are also multiplied by the curve."""
    if not isinstance(control, CurvedControl):
        control.__class__, control.curve = _curved(type(control)), curve
    else:
        control.curve = control.curve * curve
    return control


@cache
def _curved(kind: type) -> type:
    return type(kind.__name__, (CurvedControl, kind), {})


def with_control_strength(conditioning: Sequence, curve: Curve, copies: dict[int, Any]) -> list:
    """The prompts with the strength of the ControlNet that was applied last multiplied.

    copies: of ControlNets by their id, so that prompts that share one still do.
    """

    def one(control: Any) -> Any:
        if id(control) not in copies:
            copy = curved(control.copy(), curve)
            copy.set_previous_controlnet(control.previous_controlnet)
            copies[id(control)] = copy
        return copies[id(control)]

    return [
        [text, {**more, CONTROL: one(more[CONTROL])} if more.get(CONTROL) else dict(more)]
        for text, more in conditioning
    ]
