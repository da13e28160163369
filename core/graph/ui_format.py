"""Converts the UI format (what ComfyUI saves, schema 0.4 and 1.0) to the API format, as the
frontend does.

Muted (mode 2) and bypassed (mode 4) nodes are left out; wires are traced through bypassed nodes,
reroutes and subgraph borders to their actual source; PrimitiveNodes become values. Muting and
bypassing have no effect on nodes that exist only in the browser.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, NamedTuple

from .api_format import write_value
from .dynamic_prompts import resolve_dynamic_prompt
from .messages import shown
from .schema import Link, NodeSpec, Registry, WorkflowError
from .subgraphs import Scope, build_scope, collect_definitions
from .ui_parts import (
    BYPASSED,
    MUTED,
    UiLink,
    first_value,
    id_text,
    mode_of,
    name_of,
    slots,
    widget_name,
)
from .widgets import read_widgets

REROUTES = ("Reroute", "Reroute (rgthree)")
NOTES = ("Note", "MarkdownNote")
# Nodes of other packs that exist only in the browser, even when wired.
BROWSER_ONLY = tuple(
    f"{name} (rgthree)"
    for name in (
        "Bookmark", "Label", "Fast Muter", "Fast Bypasser", "Fast Groups Muter",
        "Fast Groups Bypasser", "Fast Actions Button", "Node Collector", "Mute / Bypass Repeater",
        "Mute / Bypass Relay", "Random Unmuter",
    )
)  # fmt: skip


class Value(NamedTuple):
    """The source of a wire that comes from a PrimitiveNode or a promoted widget."""

    value: Any


class Conversion(NamedTuple):
    """An API prompt, and a description of each unknown node dropped as frontend-only."""

    api: dict[str, Any]
    dropped: tuple[str, ...]


_REMOVED = object()  # The wire comes from a muted node; the input is removed.


def is_ui(data: Any) -> bool:
    """Return whether `data` is a workflow in the UI format."""
    return isinstance(data, dict) and isinstance(data.get("nodes"), list)


def ui_to_api(
    workflow: Mapping[str, Any], registry: Registry, rng: random.Random | None = None
) -> dict[str, Any]:
    """Convert a UI workflow to an API prompt; see `convert`."""
    return convert(workflow, registry, rng).api


def convert(
    workflow: Mapping[str, Any], registry: Registry, rng: random.Random | None = None
) -> Conversion:
    """Convert a UI workflow to an API prompt; `rng` picks from {a|b} in dynamic prompts.

    Nodes of unknown type are written (so that validation can name them) unless they are known to
    exist only in the browser, or have no wire and no "Node name for S&R", which every backend node
    is saved with. Raises WorkflowError for a malformed workflow.
    """
    definitions = collect_definitions(workflow)
    writer = _Writer(registry, rng or random.Random(0))
    writer.write(build_scope(workflow, definitions, registry))
    api = writer.api
    for node in api.values():
        inputs = node["inputs"]
        for name in [n for n, v in inputs.items() if isinstance(v, list) and v[0] not in api]:
            del inputs[name]
    return Conversion(api, tuple(writer.dropped))


class _Writer:
    def __init__(self, registry: Registry, rng: random.Random):
        self.registry, self.rng = registry, rng
        self.wires = _Wires(registry)
        self.api: dict[str, Any] = {}
        self.dropped: list[str] = []

    def write(self, scope: Scope) -> None:
        for node_id, node in scope.nodes.items():
            if mode_of(node) in (MUTED, BYPASSED):
                continue
            if node_id in scope.children:
                self.write(scope.children[node_id])
            elif self._runs(scope, node):
                exec_id = scope.exec_id(node)
                if exec_id in self.api:
                    raise WorkflowError(f"two nodes have the id {shown(exec_id)}")
                self.api[exec_id] = self._node(scope, node)

    def _runs(self, scope: Scope, node: Mapping[str, Any]) -> bool:
        if node["type"] in self.registry:
            return True
        if _is_virtual(node) or node["type"] in NOTES:
            return False
        properties = node.get("properties")
        saved_as_backend = isinstance(properties, dict) and "Node name for S&R" in properties
        wired = id_text(node["id"]) in scope.layout.wired
        if node["type"] not in BROWSER_ONLY and (saved_as_backend or wired):
            return True
        self.dropped.append(f"node {shown(scope.exec_id(node))} ({shown(node['type'])})")
        return False

    def _node(self, scope: Scope, node: Mapping[str, Any]) -> dict[str, Any]:
        spec = self.registry.get(node["type"])
        promoted = scope.by_node.get(id_text(node["id"]), {})
        values = read_widgets(node, spec, promoted) if spec else _loose_widgets(node)
        if spec:
            values = {name: self._text(spec, name, value) for name, value in values.items()}
        inputs = {name: write_value(value) for name, value in values.items()}
        for name, kind, link in _wired_inputs(scope, node, spec):
            source = self.wires.resolve(scope, link, kind)
            if source is _REMOVED:
                inputs.pop(name, None)
            elif isinstance(source, Value):
                inputs[name] = write_value(source.value)
            elif source is not None:
                inputs[name] = write_value(source)
        title = node.get("title") or (spec.display_name if spec else "") or node["type"]
        return {"class_type": node["type"], "inputs": inputs, "_meta": {"title": str(title)}}

    def _text(self, spec: NodeSpec, name: str, value: Any) -> Any:
        declared = next((one for one in spec.inputs if one.name == name), None)
        if declared is None or not declared.dynamic_prompts or not isinstance(value, str):
            return value
        return resolve_dynamic_prompt(value, self.rng)


def _loose_widgets(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return the named widget values of a node of unknown type, if it saves any."""
    for key in ("widgets_values_named", "widgets_values"):
        if isinstance(node.get(key), dict):
            return dict(node[key])
    return {}


def _is_virtual(node: Mapping[str, Any]) -> bool:
    return node["type"] in (*REROUTES, "PrimitiveNode", "GetNode", "SetNode")


def _wired_inputs(
    scope: Scope, node: Mapping[str, Any], spec: NodeSpec | None
) -> list[tuple[str, str, UiLink]]:
    """Return (input name, type, link) of each wired input."""
    found = []
    for index, slot in enumerate(slots(node, "inputs")):
        link = scope.layout.incoming(node, index, slot)
        if link is not None:
            name = _input_name(slot, spec)
            if not name:
                raise WorkflowError(f"{name_of(node)} has a wire into an input without a name")
            found.append((name, str(slot.get("type", "*")), link))
    return found


def _input_name(slot: dict, spec: NodeSpec | None) -> str:
    declared = {one.name for one in spec.inputs} if spec else set()
    widget = widget_name(slot)
    return widget if slot["name"] not in declared and widget in declared else slot["name"]


class _Step(NamedTuple):
    """Tracing continues at `link` in `scope`, with `kind` as the wanted type unless it is ""."""

    scope: Scope
    link: UiLink
    kind: str = ""


class _Wires:
    """Traces wires to their actual sources, with a cache."""

    def __init__(self, registry: Registry):
        self.registry = registry
        self.known: dict[tuple, Any] = {}

    def resolve(self, scope: Scope, link: UiLink, kind: str) -> Any:
        """Return the source of a wire: a Link, a Value, None (nothing; the widget keeps its own
        value) or `_REMOVED`. `kind` is the target's type, by which bypassed nodes choose an input.
        """
        passed: dict[tuple, None] = {}
        step: Any = _Step(scope, link, kind)
        while isinstance(step, _Step):
            key = (step.scope.path, step.link.id, step.kind)
            if key in self.known:
                step = self.known[key]
                break
            if key in passed:
                raise WorkflowError(f"the wires form a loop through link {shown(step.link.id)}, "
                                    "with no node in it")  # fmt: skip
            passed[key] = None
            after = self._after(step)
            step = (
                after._replace(kind=after.kind or step.kind) if isinstance(after, _Step) else after
            )
        self.known |= dict.fromkeys(passed, step)
        return step

    def _after(self, step: _Step) -> Any:
        if step.scope.is_entry(step.link):
            return _leave(step.scope, step.link)
        return _enter(step.scope, step.link, step.kind, self.registry)


def _leave(scope: Scope, link: UiLink) -> _Step | Value | None:
    """Step from a subgraph's input out to the instance's wire or value for it."""
    index = scope.definition.input_number(link)
    if not 0 <= index < len(scope.definition.inputs):
        return None
    outer = scope.parent.layout.links.get(scope.own_inputs[index]["link"])
    if outer is not None:
        return _Step(scope.parent, outer)
    name = scope.definition.inputs[index]["name"]
    return Value(scope.by_input[name]) if name in scope.by_input else None


def _enter(scope: Scope, link: UiLink, kind: str, registry: Registry) -> Any:
    """Step from a wire to its source node, and through virtual, bypassed and subgraph nodes."""
    node = scope.nodes.get(link.origin)
    if node is None:
        return None
    if node["type"] not in registry and _is_virtual(node):
        return _through_virtual(scope, node, link.origin_slot)
    mode = mode_of(node)
    if mode == MUTED:
        return _REMOVED
    if mode == BYPASSED:
        return _through_bypassed(scope, node, link.origin_slot, kind)
    if link.origin in scope.children:
        inner = scope.children[link.origin]
        inside = inner.exit_link(link.origin_slot)
        return None if inside is None else _Step(inner, inside)
    return Link(scope.exec_id(node), link.origin_slot)


def _through_bypassed(scope: Scope, node: dict, slot: int, kind: str) -> _Step | None:
    inputs = scope.inputs_of(id_text(node["id"]))
    types = [str(one.get("type", "*")) for one in inputs]
    index = bypass_input(types, _output_type(node, slot), slot, kind)
    link = None if index is None else scope.layout.incoming(node, index, inputs[index])
    return None if link is None else _Step(scope, link, types[index])


def _output_type(node: dict, slot: int) -> str:
    outputs = slots(node, "outputs")
    return str(outputs[slot].get("type", "*")) if 0 <= slot < len(outputs) else "*"


def bypass_input(inputs: list[str], output: str, slot: int, wanted: str) -> int | None:
    """Choose the input, given the inputs' types, that replaces output `slot` of a bypassed node.

    For a target of any type, the same slot, else the first. Otherwise the same slot if its type
    fits both the output and the target, else the first of exactly the wanted type, else the first
    that fits both.
    """
    if not inputs or slot < 0:
        return None
    if wanted in ("*", ""):
        return slot if slot < len(inputs) else 0
    fits = [_connects(one, output) and _connects(one, wanted) for one in inputs]
    if slot < len(inputs) and fits[slot]:
        return slot
    if wanted in inputs:
        return inputs.index(wanted)
    return fits.index(True) if True in fits else None


def _connects(left: str, right: str) -> bool:
    """Return whether the frontend allows a wire between two types (it ignores case)."""
    lefts, rights = left.lower().split(","), right.lower().split(",")
    return bool({"*", "", "0"} & {*lefts, *rights} or set(lefts) & set(rights))


def _through_virtual(scope: Scope, node: dict, slot: int) -> _Step | Value | None:
    if node["type"] == "PrimitiveNode":
        value = first_value(node)
        return None if value is None else Value(value)
    if node["type"] == "GetNode":
        return _from_setter(scope, node)
    return _wired_to(scope, node, slot)


def _wired_to(scope: Scope, node: dict, index: int) -> _Step | None:
    inputs = slots(node, "inputs")
    has_input = 0 <= index < len(inputs)
    link = scope.layout.incoming(node, index, inputs[index]) if has_input else None
    return None if link is None else _Step(scope, link)


def _from_setter(scope: Scope | None, getter: dict) -> _Step | None:
    """Find the SetNode of the same name, in this scope or one around it."""
    name = first_value(getter)
    while scope is not None and isinstance(name, str):
        if name in scope.layout.setters:
            return _wired_to(scope, scope.layout.setters[name], 0)
        scope = scope.parent
    return None
