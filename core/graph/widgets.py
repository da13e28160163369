"""Widget values of the UI format: assigning saved values to inputs, and saving them.

A saved list has one value per widget in the frontend's order, and extra values that belong to no
input: a "control_after_generate" after each seed (once true, false or null), and an upload button's
after all inputs. Earlier frontends put the button's after the required inputs, other programs after
its own input, and old files lack both extras, so the reading that fits the schema best is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .schema import InputSpec, NodeSpec, required_first
from .values import current_choice

# Until spring 2023 the control was a switch, saved as true, false or null.
CONTROL_WORDS = ("fixed", "increment", "decrement", "randomize", "increment-wrap")
CONTROL_VALUES = (*CONTROL_WORDS, True, False, None)
UPLOAD_VALUES = ("image", "video", "audio", "file", "upload", "", None)


def read_widgets(
    node: Mapping[str, Any], spec: NodeSpec, promoted: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return every widget's value by input name, with the schema's default for missing ones.

    `promoted` are a subgraph instance's values for this node, which take precedence.
    """
    named = node.get("widgets_values_named")
    saved = node.get("widgets_values")
    values: dict[str, Any] = {}
    if isinstance(saved, list):
        values = align(saved, spec.inputs)
    elif isinstance(saved, dict):
        values = dict(saved)
    if isinstance(named, dict):
        values.update(named)
    return complete({**values, **(promoted or {})}, spec)


def complete(values: Mapping[str, Any], spec: NodeSpec) -> dict[str, Any]:
    """Return the values of live widgets in the frontend's order, missing ones set to defaults."""
    full: dict[str, Any] = {}
    for name, live in spec.live_inputs(values).items():
        value = values[name] if name in values else live.initial()
        if value is not None and live.takes(value):
            full[name] = value
    return full


def align(saved: Sequence[Any], inputs: Sequence[InputSpec]) -> dict[str, Any]:
    """Assign a list of saved values to the widgets among `inputs`.

    Readings with and without the extra values are compared by the number of values that do not fit
    their input, then by the number of surplus or missing values; ties go to the current format.
    """
    readings = [
        _Reading(saved, inputs, control, upload)
        for control in (2, 1, 0)
        for upload in ("last", "required", "next", "none")
    ]
    return min(readings, key=lambda reading: reading.misfit).values


class _Reading:
    """One way to read a list of saved values.

    control: the number of extra values after a combo with a control; 0 for none after any input.
    upload: the place of the upload button's value: "last" of all, after the "required" inputs,
    "next" to its own, or "none".
    """

    def __init__(
        self, saved: Sequence[Any], inputs: Sequence[InputSpec], control: int, upload: str
    ):
        self.saved, self.control, self.upload = saved, control, upload
        self.position, self.wrong, self.values = 0, 0, {}
        self._collect(inputs, "")

    @property
    def misfit(self) -> tuple[int, int]:
        return self.wrong, abs(len(self.saved) - self.position)

    def _collect(self, inputs: Sequence[InputSpec], prefix: str) -> None:
        button = not prefix and self.upload in ("last", "required")
        button = button and any(one.upload for one in inputs)
        for spec in required_first(inputs):
            if spec.kind != "widget":
                if spec.takes(self._next):
                    self._take(spec, f"{prefix}{spec.name}")
                continue
            if button and self.upload == "required" and not spec.required:
                button = self._skip_button()
            self._take(spec, f"{prefix}{spec.name}")
            self._skip_extras(spec, nested=bool(prefix))
            if spec.dynamic is not None:
                chosen = self.values.get(f"{prefix}{spec.name}", spec.initial())
                self._collect(spec.opened(chosen), f"{prefix}{spec.name}.")
        if button:
            self._skip_button()

    @property
    def _next(self) -> Any:
        return self.saved[self.position] if self.position < len(self.saved) else None

    def _skip_button(self) -> bool:
        """Skip the upload button's value if it is next; always False, since there is only one."""
        self.position += self._next_in(UPLOAD_VALUES)
        return False

    def _take(self, spec: InputSpec, name: str) -> None:
        if self.position < len(self.saved):
            self.values[name] = value = self.saved[self.position]
            self.wrong += not suits(value, spec)
        self.position += 1

    def _skip_extras(self, spec: InputSpec, nested: bool) -> None:
        control = spec.control_after_generate if nested else spec.has_control
        if control and self.control and self._next_in(CONTROL_VALUES):
            self.position += 1
            # The control of a combo also saves a filter text.
            if spec.is_combo and self.control == 2 and self._next_in(("",)):
                self.position += 1
        if spec.upload and self.upload == "next":
            self._skip_button()

    def _next_in(self, known: tuple) -> bool:
        if self.position >= len(self.saved):
            return False
        value = self.saved[self.position]
        return (value is None or isinstance(value, (str, bool))) and value in known


def suits(value: Any, spec: InputSpec) -> bool:
    """Return roughly whether a saved value fits an input."""
    if spec.dynamic is not None or (spec.is_combo and not spec.upload):
        choices = spec.choices()
        current = current_choice(value, spec)
        items = current if isinstance(current, list) else [current]
        return all(item in choices for item in items)
    if spec.type in ("INT", "FLOAT"):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if spec.type == "BOOLEAN":
        return isinstance(value, bool)
    return isinstance(value, str) or spec.type != "STRING"


def write_widgets(values: Mapping[str, Any], spec: NodeSpec) -> tuple[list[Any], dict[str, Any]]:
    """Return `widgets_values` (with the extra values) and `widgets_values_named` for a node."""
    widgets = {name: live for name, live in spec.live_inputs(values).items()
               if live.takes(values.get(name))}  # fmt: skip
    listed: list[Any] = []
    named: dict[str, Any] = {}
    for name, live in widgets.items():
        named[name] = values.get(name, live.initial())
        listed.append(named[name])
        if live.has_control:
            listed += ["fixed", ""] if live.is_combo else ["fixed"]
    if any(one.upload for one in widgets.values()):
        listed.append("image")
    return listed, named
