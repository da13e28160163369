"""The pieces of a UI workflow: links, scopes (the root and each instance of a subgraph), values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .schema import WorkflowError

INPUT_NODE, OUTPUT_NODE = "-10", "-20"


class UiLink(NamedTuple):
    """A wire of the UI form, written there as a list (0.4) or as an object (1.0, subgraphs)."""

    id: str
    origin: str
    origin_slot: int
    target: str
    target_slot: int
    type: str


def read_link(raw: Any) -> UiLink | None:
    """Read one link; None for anything that is not one (the frontend saves nulls at times)."""
    keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot")
    if isinstance(raw, dict):
        raw = [*(raw.get(key) for key in keys), raw.get("type", "*")]
    if not isinstance(raw, (list, tuple)) or len(raw) < 5 or None in raw[:5]:
        return None
    kind = raw[5] if len(raw) > 5 and isinstance(raw[5], str) else "*"
    try:
        return UiLink(str(raw[0]), str(raw[1]), int(raw[2]), str(raw[3]), int(raw[4]), kind)
    except (TypeError, ValueError):
        return None


@dataclass
class Scope:
    """The root graph, or one instance of a subgraph, whose `path` leads to it from the root.

    `by_input` holds the values that the instance gives to the subgraph's inputs, `by_node` those
    it gives straight to widgets of inner nodes (promoted widgets), by inner node id.
    """

    path: tuple[str, ...]
    nodes: dict[str, dict]
    links: dict[str, UiLink]
    definition: Mapping[str, Any] | None = None
    parent: Scope | None = None
    instance: Mapping[str, Any] | None = None
    children: dict[str, Scope] = field(default_factory=dict)
    by_input: dict[str, Any] = field(default_factory=dict)
    by_node: dict[str, dict[str, Any]] = field(default_factory=dict)

    def exec_id(self, node: Mapping[str, Any]) -> str:
        return ":".join((*self.path, str(node["id"])))

    def is_entry(self, link: UiLink) -> bool:
        return self.definition is not None and link.origin == self._io_id("inputNode", INPUT_NODE)

    def exit_link(self, slot: int) -> UiLink | None:
        """Return the inner link that feeds output `slot` of this subgraph."""
        exit_id = self._io_id("outputNode", OUTPUT_NODE)
        into = [k for k in self.links.values() if k.target == exit_id and k.target_slot == slot]
        return into[0] if into else None

    def _io_id(self, key: str, default: str) -> str:
        node = (self.definition or {}).get(key)
        return str(node.get("id", default)) if isinstance(node, dict) else default


def collect_definitions(workflow: Mapping[str, Any]) -> dict[str, dict]:
    """Return all subgraph definitions by id, those inside other definitions included."""
    found: dict[str, dict] = {}
    waiting = [workflow]
    while waiting:
        definitions = waiting.pop().get("definitions")
        listed = definitions.get("subgraphs") if isinstance(definitions, dict) else None
        for definition in listed if isinstance(listed, list) else []:
            if isinstance(definition, dict) and str(definition.get("id")) not in found:
                found[str(definition.get("id"))] = definition
                waiting.append(definition)
    return found


def build_scope(workflow: Mapping[str, Any], definitions: Mapping[str, dict]) -> Scope:
    """Lay out the whole workflow: the root scope and, below it, one scope per subgraph instance."""
    root = Scope((), _read_nodes(workflow), _read_links(workflow))
    waiting = [root]
    while waiting:
        scope = waiting.pop()
        for node_id, node in scope.nodes.items():
            if node["type"] in definitions:
                child = _open(scope, node, definitions[node["type"]])
                scope.children[node_id] = child
                waiting.append(child)
    return root


def _open(scope: Scope, node: dict, definition: dict) -> Scope:
    _refuse_recursion(scope, node)
    path = (*scope.path, str(node["id"]))
    child = Scope(path, _read_nodes(definition), _read_links(definition), definition, scope, node)
    child.by_input, child.by_node = promoted_values(node)
    for name, value in scope.by_node.get(str(node["id"]), {}).items():
        child.by_input[name] = value
        for inner, widget in _proxies(node):
            if widget == name and inner != "-1":
                child.by_node.setdefault(inner, {})[widget] = value
    return child


def _refuse_recursion(scope: Scope | None, node: dict) -> None:
    while scope is not None and scope.instance is not None:
        if scope.instance["type"] == node["type"]:
            name = (scope.definition or {}).get("name") or node["type"]
            raise WorkflowError(f'subgraph "{name}" contains itself (at node {node["id"]})')
        scope = scope.parent


def promoted_values(instance: Mapping[str, Any]) -> tuple[dict, dict]:
    """Return what an instance saves for its subgraph: values by input, and by inner node.

    The saved list follows `proxyWidgets` (pairs of inner node id and widget name, "-1" meaning the
    instance's own input) or, without them, the instance's inputs that are widgets.
    """
    by_input: dict[str, Any] = {}
    by_node: dict[str, dict[str, Any]] = {}
    saved = instance.get("widgets_values")
    pairs = _proxies(instance)
    own = [("-1", slot["name"]) for slot in slots(instance, "inputs") if slot.get("widget")]
    if isinstance(saved, list):
        order = pairs if pairs and len(pairs) == len(saved) else own
        _assign(zip(order, saved, strict=False), by_input, by_node)
    named = instance.get("widgets_values_named")
    for names in (saved, named):
        if isinstance(names, dict):
            taken = [(pair, names[pair[1]]) for pair in pairs if pair[1] in names]
            _assign(taken, by_input, by_node)
            _assign([(("-1", name), value) for name, value in names.items()], by_input, by_node)
    return by_input, by_node


def _assign(pairs: Any, by_input: dict, by_node: dict) -> None:
    for (inner, name), value in pairs:
        if value is None:
            continue
        if inner == "-1":
            by_input[name] = value
        else:
            by_node.setdefault(inner, {})[name] = value


def _proxies(instance: Mapping[str, Any]) -> list[tuple[str, str]]:
    properties = instance.get("properties")
    raw = properties.get("proxyWidgets") if isinstance(properties, dict) else None
    if isinstance(raw, str):
        try:
            raw = json.loads(raw)
        except ValueError:
            raw = None
    pairs = raw if isinstance(raw, list) else []
    return [(str(p[0]), str(p[1])) for p in pairs if isinstance(p, list) and len(p) >= 2]


def slots(node: Mapping[str, Any], key: str) -> list[dict]:
    """Return a node's saved "inputs" or "outputs", each guaranteed to be a dict with a name."""
    raw = node.get(key) if isinstance(node.get(key), list) else []
    return [s if isinstance(s, dict) and "name" in s else {"name": ""} for s in raw]


def _read_nodes(graph: Mapping[str, Any]) -> dict[str, dict]:
    raw = graph.get("nodes")
    if not isinstance(raw, list):
        raise WorkflowError(f'the workflow\'s "nodes" is {type(raw).__name__}, expected a list')
    for index, node in enumerate(raw):
        if not isinstance(node, dict) or "id" not in node or not isinstance(node.get("type"), str):
            raise WorkflowError(f'entry {index} of the workflow\'s "nodes" has no id or no type')
    return {str(node["id"]): node for node in raw}


def _read_links(graph: Mapping[str, Any]) -> dict[str, UiLink]:
    raw = graph.get("links")
    if isinstance(raw, dict):
        raw = list(raw.values())
    entries = raw if isinstance(raw, list) else []
    links = [link for link in map(read_link, entries) if link is not None]
    return {link.id: link for link in links}
