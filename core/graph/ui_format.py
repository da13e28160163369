"""The UI form (what ComfyUI saves, schema 0.4 and 1.0) to the API form, as the frontend does it.

Muted (mode 2) and bypassed (mode 4) nodes are not written; wires run through bypassed nodes,
reroutes and subgraph borders to the node they really come from; PrimitiveNodes become values.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, NamedTuple

from .api_format import write_value
from .schema import Link, NodeSpec, Registry, WorkflowError
from .subgraphs import Scope, UiLink, build_scope, collect_definitions, slots
from .widgets import read_widgets, resolve_dynamic_prompt

MUTED, BYPASSED = 2, 4
REROUTES = ("Reroute", "Reroute (rgthree)")
NOTES = ("Note", "MarkdownNote")
# Nodes of other packs that exist in the browser only, even when something is wired to them.
BROWSER_ONLY = tuple(
    f"{name} (rgthree)"
    for name in (
        "Bookmark", "Label", "Fast Muter", "Fast Bypasser", "Fast Groups Muter",
        "Fast Groups Bypasser", "Fast Actions Button", "Node Collector", "Mute / Bypass Repeater",
        "Mute / Bypass Relay", "Random Unmuter",
    )
)  # fmt: skip


class Value(NamedTuple):
    """What a wire brings when it ends in a PrimitiveNode or a promoted widget."""

    value: Any


class Conversion(NamedTuple):
    """An API prompt, and a description of each unknown node that was taken as frontend-only."""

    api: dict[str, Any]
    dropped: tuple[str, ...]


_REMOVED = object()  # The wire comes from a muted node; the input goes with it.


def is_ui(data: Any) -> bool:
    """Tell whether `data` is a workflow in the UI form."""
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

    Unknown types are written (so that validation can name them) unless they are known to live in
    the browser only, or have no wire and lack the property every backend node is saved with.
    Raises WorkflowError for a workflow that is not well formed.
    """
    definitions = collect_definitions(workflow)
    writer = _Writer(registry, rng or random.Random(0))
    writer.write(build_scope(workflow, definitions))
    api = writer.api
    for node in api.values():
        inputs = node["inputs"]
        for name in [n for n, v in inputs.items() if isinstance(v, list) and v[0] not in api]:
            del inputs[name]
    return Conversion(api, tuple(writer.dropped))


class _Writer:
    def __init__(self, registry: Registry, rng: random.Random):
        self.registry, self.rng = registry, rng
        self.api: dict[str, Any] = {}
        self.dropped: list[str] = []

    def write(self, scope: Scope) -> None:
        for node_id, node in scope.nodes.items():
            if node.get("mode", 0) in (MUTED, BYPASSED):
                continue
            if node_id in scope.children:
                self.write(scope.children[node_id])
            elif self._runs(scope, node):
                self.api[scope.exec_id(node)] = self._node(scope, node)

    def _runs(self, scope: Scope, node: Mapping[str, Any]) -> bool:
        if node["type"] in self.registry:
            return True
        if _is_virtual(node) or node["type"] in NOTES:
            return False
        properties = node.get("properties")
        saved_as_backend = isinstance(properties, dict) and "Node name for S&R" in properties
        ends = {end for link in scope.links.values() for end in (link.origin, link.target)}
        wired = str(node["id"]) in ends
        if node["type"] not in BROWSER_ONLY and (saved_as_backend or wired):
            return True
        self.dropped.append(f"node {scope.exec_id(node)} ({node['type']})")
        return False

    def _node(self, scope: Scope, node: Mapping[str, Any]) -> dict[str, Any]:
        spec = self.registry.get(node["type"])
        values = read_widgets(node, spec) if spec else _loose_widgets(node)
        if spec:
            values.update(scope.by_node.get(str(node["id"]), {}))
            values = {name: self._text(spec, name, value) for name, value in values.items()}
        inputs = {name: write_value(value) for name, value in values.items()}
        for name, kind, link in _wires(scope, node, spec):
            source = resolve(scope, link, kind, self.registry)
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
    """Return the values of a node of unknown type, as far as they carry names."""
    for key in ("widgets_values_named", "widgets_values"):
        if isinstance(node.get(key), dict):
            return dict(node[key])
    return {}


def _is_virtual(node: Mapping[str, Any]) -> bool:
    return node["type"] in (*REROUTES, "PrimitiveNode", "GetNode", "SetNode")


def _wires(
    scope: Scope, node: Mapping[str, Any], spec: NodeSpec | None
) -> list[tuple[str, str, UiLink]]:
    """Return (input name, type, link) of each wired input.

    The input's own link id counts, never the saved slot number, which goes stale when a node gains
    inputs. Only a slot that says nothing about links is looked up by number.
    """
    found = []
    for index, slot in enumerate(slots(node, "inputs")):
        link = _slot_link(scope, node, index, slot)
        if link is not None:
            found.append((_input_name(slot, spec), str(slot.get("type", "*")), link))
    return found


def _slot_link(scope: Scope, node: Mapping[str, Any], index: int, slot: dict) -> UiLink | None:
    if "link" in slot:
        return scope.links.get(str(slot["link"]))
    here = str(node["id"]), index
    return next((k for k in scope.links.values() if (k.target, k.target_slot) == here), None)


def _input_name(slot: dict, spec: NodeSpec | None) -> str:
    widget = slot.get("widget")
    declared = {one.name for one in spec.inputs} if spec else set()
    if slot["name"] not in declared and isinstance(widget, dict) and widget.get("name") in declared:
        return widget["name"]
    return str(slot["name"])


def resolve(scope: Scope, link: UiLink, kind: str, registry: Registry) -> Any:
    """Follow a wire to where its data really comes from.

    Returns a Link, a Value, None (nothing arrives: the widget's own value stays) or `_REMOVED`.
    `kind` is the type that the far end wants; bypassed nodes choose their input by it.
    """
    seen: set[tuple] = set()
    while True:
        if (scope.path, link.id) in seen:
            raise WorkflowError(f"the wires form a loop through link {link.id}, with no node in it")
        seen.add((scope.path, link.id))
        step = _leave(scope, link) if scope.is_entry(link) else _enter(scope, link, kind, registry)
        if not isinstance(step, _Step):
            return step
        scope, link, kind = step.scope, step.link, step.kind or kind


class _Step(NamedTuple):
    """The wire goes on at `link` in `scope` (with another wanted type, where `kind` says so)."""

    scope: Scope
    link: UiLink
    kind: str = ""


def _leave(scope: Scope, link: UiLink) -> _Step | Value | None:
    """Go from a subgraph's input out to what is wired, or typed, into the instance."""
    declared = slots(scope.definition, "inputs")
    name = declared[link.origin_slot]["name"] if link.origin_slot < len(declared) else None
    instance_slots = slots(scope.instance, "inputs")
    index = next((i for i, s in enumerate(instance_slots) if s["name"] == name), link.origin_slot)
    if index < len(instance_slots):
        outer = _slot_link(scope.parent, scope.instance, index, instance_slots[index])
        if outer is not None:
            return _Step(scope.parent, outer)
    return Value(scope.by_input[name]) if name in scope.by_input else None


def _enter(scope: Scope, link: UiLink, kind: str, registry: Registry) -> Any:
    """Go from a wire into the node that it leaves."""
    node = scope.nodes.get(link.origin)
    if node is None:
        return None
    mode = node.get("mode", 0)
    if mode == MUTED:
        return _REMOVED
    if mode == BYPASSED:
        return _through_bypassed(scope, node, link.origin_slot, kind)
    if link.origin in scope.children:
        inner = scope.children[link.origin]
        inside = inner.exit_link(link.origin_slot)
        return None if inside is None else _Step(inner, inside)
    if node["type"] not in registry and _is_virtual(node):
        return _through_virtual(scope, node, link.origin_slot)
    return Link(scope.exec_id(node), link.origin_slot)


def _through_bypassed(scope: Scope, node: dict, slot: int, kind: str) -> _Step | None:
    inputs = slots(node, "inputs")
    index = bypass_input(
        [str(one.get("type", "*")) for one in inputs], _output_type(node, slot), slot, kind
    )
    link = None if index is None else _slot_link(scope, node, index, inputs[index])
    return None if link is None else _Step(scope, link, str(inputs[index].get("type", "*")))


def _output_type(node: dict, slot: int) -> str:
    outputs = slots(node, "outputs")
    return str(outputs[slot].get("type", "*")) if slot < len(outputs) else "*"


def bypass_input(inputs: list[str], output: str, slot: int, wanted: str) -> int | None:
    """Choose the input (by its types) that stands in for output `slot` of a bypassed node.

    An any-typed target takes the same slot, else the first. Otherwise: the same slot if its type
    fits both the output and the target, else the first of exactly the wanted type, else the first
    that fits both.
    """
    if not inputs:
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
    """Tell whether the frontend allows a wire between two types (case does not matter there)."""
    lefts, rights = left.lower().split(","), right.lower().split(",")
    return bool({"*", "", "0"} & {*lefts, *rights} or set(lefts) & set(rights))


def _through_virtual(scope: Scope, node: dict, slot: int) -> _Step | Value | None:
    if node["type"] == "PrimitiveNode":
        return _primitive(node)
    if node["type"] == "GetNode":
        return _from_setter(scope, node)
    inputs = slots(node, "inputs")
    link = _slot_link(scope, node, slot, inputs[slot]) if slot < len(inputs) else None
    return None if link is None else _Step(scope, link)


def _primitive(node: dict) -> Value | None:
    saved = node.get("widgets_values_named") or node.get("widgets_values")
    values = list(saved.values()) if isinstance(saved, dict) else saved
    return Value(values[0]) if values else None


def _from_setter(scope: Scope | None, getter: dict) -> _Step | None:
    """Find the SetNode of the same name, in this scope or one around it."""
    while scope is not None:
        for node in scope.nodes.values():
            if node["type"] == "SetNode" and _primitive(node) == _primitive(getter):
                inputs = slots(node, "inputs")
                link = _slot_link(scope, node, 0, inputs[0]) if inputs else None
                return None if link is None else _Step(scope, link)
        scope = scope.parent
    return None
