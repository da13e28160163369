"""The workflow engine's data types: node schemas, results, graphs.

The engine knows no concrete node; it is passed a registry, a mapping from class name to `NodeSpec`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .messages import LONGEST_NAME, shown

DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"
AUTOGROW = "COMFY_AUTOGROW_V3"
MATCH_TYPE = "COMFY_MATCHTYPE_V3"
NEW_WIDGETS = ("VIDEO_EDIT",)
"""Types whose inputs are sockets in current frontends and widgets with a dict value in newer ones.
"""
SEED_NAMES = ("seed", "noise_seed")
SHOWN_DROPPED = 8
MOST_NODES, MOST_LINKS = 10_000, 100_000


class WorkflowError(ValueError):
    """A workflow that cannot be read; the message is one sentence for the user."""


class Link(NamedTuple):
    """The source of a wire: output `slot` of node `node_id`."""

    node_id: str
    slot: int


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """One input of a node.

    kind: "widget" if a value can be typed into the node, "socket" if it takes only a wire. options:
    the choices of a combo, or a function that lists them. accepts: whether a value that is not
    among the choices is valid all the same, such as a file in another folder. dynamic: of a dynamic
    combo, the inputs that each choice opens, named "<name>.<sub name>". template, names: of an
    autogrow input, its sockets, of which the first `minimum` (default 1) are required if the
    template is.
    """

    name: str
    type: str
    kind: str = "socket"
    required: bool = True
    default: Any = None
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    options: tuple | Callable[[], Sequence] | None = None
    accepts: Callable[[Any], bool] | None = None
    multiselect: bool = False
    multiline: bool = False
    dynamic_prompts: bool = False
    control_after_generate: bool | None = None
    upload: bool = False
    lazy: bool = False
    tooltip: str | None = None
    advanced: bool = False
    dynamic: Mapping[str, Sequence[InputSpec]] | None = None
    template: InputSpec | None = None
    names: tuple[str, ...] = ()

    @property
    def is_combo(self) -> bool:
        return self.options is not None or self.dynamic is not None or self.type == "COMBO"

    @property
    def has_control(self) -> bool:
        """Whether the frontend saves a "control_after_generate" value after this widget's."""
        if self.control_after_generate is not None:
            return bool(self.control_after_generate)
        return self.type == "INT" and self.name in SEED_NAMES

    def takes(self, value: Any) -> bool:
        """Whether the input can have this plain value: it is a widget, or a socket that is a widget
        in newer frontends."""
        return self.kind == "widget" or (self.type in NEW_WIDGETS and isinstance(value, Mapping))

    def choices(self) -> tuple:
        """Return the combo's current choices (files are listed anew on every call)."""
        if self.dynamic is not None:
            return tuple(self.dynamic)
        found = self.options() if callable(self.options) else self.options
        return tuple(found or ())

    def opened(self, choice: Any) -> Sequence[InputSpec]:
        """Return the inputs that a choice of this dynamic combo opens; none if it is unknown."""
        return self.dynamic.get(choice, ()) if self.dynamic and isinstance(choice, str) else ()

    def initial(self) -> Any:
        """Return the value of a new widget in the frontend; None if it has none."""
        if self.default is not None or not self.is_combo:
            return self.default
        choices = self.choices()
        return choices[0] if choices else None


@dataclass(frozen=True, kw_only=True)
class OutputSpec:
    """One output of a node; the next nodes are called once per item of an `is_list` output."""

    name: str
    type: str
    is_list: bool = False


@dataclass(frozen=True)
class NodeResult:
    """The result of one call of a node.

    `values` has one entry per output; entries of an expanding node may be links [id, slot] into
    `expand`, a dict of API nodes. `ui` maps keys to lists. `block` blocks everything downstream: ""
    silently, any other text with this message.
    """

    values: tuple = ()
    ui: dict[str, Any] | None = None
    expand: dict[str, Any] | None = None
    block: str | None = None


@dataclass(frozen=True)
class Blocked:
    """A value on a wire that keeps the nodes downstream from running."""

    message: str | None = None


@dataclass(frozen=True, kw_only=True)
class NodeSpec:
    """One node class.

    `execute` is called with the inputs and the `hidden` inputs ("unique_id", "prompt",
    "extra_pnginfo", "dynprompt") by name, and returns a NodeResult or an awaitable of one.
    `validate_inputs(**constants)` returns True or a sentence, `fingerprint_inputs(**constants)`
    anything comparable, `check_lazy_status(**inputs)` the names of the lazy inputs it needs.
    """

    id: str
    display_name: str = ""
    category: str = ""
    description: str = ""
    inputs: tuple[InputSpec, ...] = ()
    outputs: tuple[OutputSpec, ...] = ()
    is_output_node: bool = False
    is_input_list: bool = False
    is_deprecated: bool = False
    is_experimental: bool = False
    not_idempotent: bool = False
    accept_all_inputs: bool = False
    hidden: tuple[str, ...] = ()
    execute: Callable[..., Any] | None = None
    validate_inputs: Callable[..., Any] | None = None
    fingerprint_inputs: Callable[..., Any] | None = None
    check_lazy_status: Callable[..., Any] | None = None

    def ordered_inputs(self) -> list[InputSpec]:
        """Return the inputs as the frontend lists them: required ones first, then optional ones."""
        return required_first(self.inputs)

    def live_inputs(self, values: Mapping[str, Any]) -> dict[str, InputSpec]:
        """Return the inputs that exist for these values (the choices of dynamic combos decide), by
        dotted name, in the frontend's order.
        """
        return {spec.name: spec for spec in expand_inputs(self.inputs, values)}


Registry = Mapping[str, NodeSpec]


@dataclass(frozen=True)
class Node:
    """One node of a graph; an input is a `Link` or a plain value."""

    id: str
    class_type: str
    inputs: Mapping[str, Any]
    title: str = ""

    @property
    def links(self) -> dict[str, Link]:
        return {name: value for name, value in self.inputs.items() if isinstance(value, Link)}


@dataclass(frozen=True)
class Graph:
    """A workflow ready to be validated and run.

    `workflow` is the UI format it was read from, if any, kept to be saved with the outputs;
    `dropped` describes the frontend-only nodes of unknown type that were left out.
    """

    nodes: Mapping[str, Node]
    workflow: dict[str, Any] | None = None
    source: str = ""
    dropped: tuple[str, ...] = field(default=())

    def left_out(self) -> str:
        """Return a remark for messages that names the dropped nodes, or ""."""
        if not self.dropped:
            return ""
        more = f" and {len(self.dropped) - SHOWN_DROPPED} more" * (
            len(self.dropped) > SHOWN_DROPPED
        )
        return f" (left out as frontend-only: {', '.join(self.dropped[:SHOWN_DROPPED])}{more})"


def required_first(inputs: Sequence[InputSpec]) -> list[InputSpec]:
    return sorted(inputs, key=lambda spec: not spec.required)


def expand_inputs(
    inputs: Sequence[InputSpec], values: Mapping[str, Any], prefix: str = ""
) -> Iterator[InputSpec]:
    """Yield the inputs that exist for `values`, with dotted names, including those that dynamic
    combos open and the sockets of autogrow inputs."""
    for spec in required_first(inputs):
        name = f"{prefix}{spec.name}"
        if spec.template is not None:
            yield from _autogrow_sockets(spec, name)
            continue
        yield _renamed(spec, name) if prefix else spec
        if spec.dynamic is not None:
            yield from expand_inputs(
                spec.opened(values.get(name, spec.initial())), values, f"{name}."
            )


def _autogrow_sockets(spec: InputSpec, name: str) -> Iterator[InputSpec]:
    minimum = 1 if spec.minimum is None else int(spec.minimum)
    for index, sub in enumerate(spec.names):
        required = spec.required and spec.template.required and index < minimum
        yield _renamed(spec.template, f"{name}.{sub}", kind="socket", required=required)


def _renamed(spec: InputSpec, name: str, **changes: Any) -> InputSpec:
    # Only an undotted "seed" gets the frontend's implicit control value.
    control = False if spec.control_after_generate is None else spec.control_after_generate
    fields = {**spec.__dict__, "control_after_generate": control, **changes, "name": name}
    return InputSpec(**fields)


def nest_inputs(spec: NodeSpec, values: Mapping[str, Any]) -> dict[str, Any]:
    """Fold dotted names into the dicts that nodes with dynamic inputs receive.

    {"codec": "h264", "codec.crf": 20} becomes {"codec": {"codec": "h264", "crf": 20}}.
    """
    folded = dict(values)
    _fold(spec.inputs, folded, "")
    return folded


def _fold(inputs: Sequence[InputSpec], values: dict[str, Any], prefix: str) -> None:
    for spec in inputs:
        name = f"{prefix}{spec.name}"
        if spec.dynamic is not None and name in values:
            choice = values.pop(name)
            _fold(spec.opened(choice), values, f"{name}.")
            values[name] = {spec.name: choice, **_taken(values, f"{name}.")}
        elif spec.template is not None:
            values[name] = _taken(values, f"{name}.")


def _taken(values: dict[str, Any], prefix: str) -> dict[str, Any]:
    names = [name for name in values if name.startswith(prefix)]
    return {name.removeprefix(prefix): values.pop(name) for name in names}


def types_match(given: str, accepted: str) -> bool:
    """Return whether ComfyUI allows a wire of type `given` into an input of type `accepted`.

    "*" and match types accept anything; "A,B" means either, and one type in common is enough.
    """
    if given == accepted or MATCH_TYPE in (given, accepted):
        return True
    left = {part.strip() for part in given.split(",")}
    right = {part.strip() for part in accepted.split(",")}
    return "*" in left or "*" in right or bool(left & right)


def describe(node: Node) -> str:
    """Return a node's id, title (if it differs from the type) and type for a message."""
    kind = f"node {shown(node.id)}"
    if node.title and node.title != node.class_type:
        return f'{kind} "{shown(node.title)}" ({shown(node.class_type)})'
    return f"{kind} ({shown(node.class_type)})"


def did_you_mean(name: Any, known: Sequence[Any]) -> str:
    """Return ' (did you mean "X"?)', or "" if no known name is similar."""
    # Comparing takes the product of the lengths, and nobody types names that long.
    text = shown(name, LONGEST_NAME + 1)
    if len(text) > LONGEST_NAME:
        return ""
    by_fold = {one.casefold(): one for one in map(str, known) if len(one) <= LONGEST_NAME}
    near = difflib.get_close_matches(text.casefold(), by_fold, n=1, cutoff=0.6)
    return f' (did you mean "{shown(by_fold[near[0]])}"?)' if near else ""
