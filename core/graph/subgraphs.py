"""The scopes of a UI workflow: the root graph, and below it each instance of a subgraph.

An instance's saved inputs are matched to the definition's by name, not by position, since newer
frontends leave out widget inputs that are not wired.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from .messages import shown
from .promotion import OWN, Place, is_widget, promoted_values, proxies
from .schema import MOST_NODES, Registry, WorkflowError
from .ui_parts import (
    Layout,
    UiLink,
    id_text,
    link_ids,
    name_of,
    read_layout,
    refuse_many,
    slots,
    widget_name,
)

INPUT_NODE, OUTPUT_NODE = "-10", "-20"
MOST_VALUES, DEEPEST = 300_000, 50
_INNER_WIDGET = re.compile(r"([^:\s]+): (.+)", re.DOTALL)


class WidgetInput(NamedTuple):
    """A subgraph's widget input: its type, and the inner node's widget that it feeds."""

    kind: str
    node_id: str
    widget: str


@dataclass(frozen=True)
class Definition:
    """A subgraph's definition: its inner nodes and links, and its inputs and outputs in order."""

    raw: Mapping[str, Any]
    layout: Layout

    @cached_property
    def inputs(self) -> list[dict]:
        return slots(self.raw, "inputs")

    @cached_property
    def outputs(self) -> list[dict]:
        return slots(self.raw, "outputs")

    @cached_property
    def input_numbers(self) -> dict[str, int]:
        return {slot["name"]: index for index, slot in enumerate(self.inputs)}

    @cached_property
    def output_numbers(self) -> dict[str, int]:
        return {slot["name"]: index for index, slot in enumerate(self.outputs)}

    @cached_property
    def entries(self) -> dict[int, list[UiLink]]:
        """The inner links from the subgraph's inputs, by input number."""
        found: dict[int, list[UiLink]] = {}
        for link in self.layout.links.values():
            if self.is_entry(link):
                found.setdefault(self.input_number(link), []).append(link)
        return found

    @cached_property
    def exits(self) -> dict[int, UiLink]:
        """The inner link into each output, by output number; stale links are ignored.

        Of several links, the one that the output itself lists is taken, else one that its source
        node lists, else (if the output saves no list) the last one whose source exists.
        """
        border = self._border("outputNode", OUTPUT_NODE)
        into = {key: link for key, link in self.layout.links.items() if link.target == border}
        found = {k.target_slot: k for k in into.values() if self._begins_somewhere(k)}
        for index, slot in enumerate(self.outputs):
            if isinstance(slot.get("linkIds"), list):
                found.pop(index, None)
        found |= {k.target_slot: k for k in into.values()
                  if (k.origin, k.origin_slot, k.id) in self.layout.leaving}  # fmt: skip
        for index, slot in enumerate(self.outputs):
            listed = [into[key] for key in link_ids(slot, "linkIds") if key in into]
            found |= {index: listed[0]} if listed else {}
        return found

    @cached_property
    def _listings(self) -> dict[str, set[int]]:
        """The numbers of the inputs that list a link as theirs, by the link's id."""
        found: dict[str, set[int]] = {}
        for index, slot in enumerate(self.inputs):
            for key in link_ids(slot, "linkIds"):
                found.setdefault(key, set()).add(index)
        return found

    def is_entry(self, link: UiLink) -> bool:
        """Return whether an inner link starts at one of the subgraph's inputs."""
        return link.origin == self._border("inputNode", INPUT_NODE)

    def input_number(self, link: UiLink) -> int:
        """Return the number of the input that an inner link starts from: one that lists the link
        (the saved number, if that does), else the saved number."""
        listed = self._listings.get(link.id, set())
        return link.origin_slot if link.origin_slot in listed or not listed else min(listed)

    def _begins_somewhere(self, link: UiLink) -> bool:
        return link.origin in self.layout.nodes or self.is_entry(link)

    def _border(self, key: str, default: str) -> str:
        node = self.raw.get(key)
        return (id_text(node.get("id")) if isinstance(node, dict) else None) or default


@dataclass
class Scope:
    """The root graph, or one instance of a subgraph with its `path` of node ids from the root.

    by_input: the instance's values for the subgraph's inputs. by_node: its values for widgets of
    inner nodes (promoted widgets), by inner node id.
    """

    path: tuple[str, ...]
    layout: Layout
    definition: Definition | None = None
    parent: Scope | None = None
    instance: Mapping[str, Any] | None = None
    children: dict[str, Scope] = field(default_factory=dict)
    by_input: dict[str, Any] = field(default_factory=dict)
    by_node: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def nodes(self) -> dict[str, dict]:
        return self.layout.nodes

    @cached_property
    def own_inputs(self) -> list[dict]:
        """The instance's input slots, each with its "link", in the definition's order. Slots that
        were not saved are added; slots unknown to the definition come last."""
        saved = [self._with_link(i, s) for i, s in enumerate(slots(self.instance, "inputs"))]
        declared = self.definition.inputs
        by_name = {slot["name"]: slot for slot in saved}
        if (
            len(saved) == len(declared)
            and not by_name.keys() & self.definition.input_numbers.keys()
        ):
            return saved  # All inputs were renamed; a complete list has the definition's order.
        found = [{**one, "link": None, **by_name.pop(one["name"], {})} for one in declared]
        return [*found, *by_name.values()]

    def _with_link(self, index: int, slot: dict) -> dict:
        link = self.parent.layout.incoming(self.instance, index, slot)
        return {**slot, "link": None if link is None else link.id}

    @cached_property
    def own_outputs(self) -> list[dict]:
        return slots(self.instance, "outputs")

    def exec_id(self, node: Mapping[str, Any]) -> str:
        return ":".join((*self.path, id_text(node["id"])))

    def is_entry(self, link: UiLink) -> bool:
        return self.definition is not None and self.definition.is_entry(link)

    def inputs_of(self, node_id: str) -> list[dict]:
        """Return a node's input slots."""
        child = self.children.get(node_id)
        return slots(self.nodes[node_id], "inputs") if child is None else child.own_inputs

    def exit_link(self, slot: int) -> UiLink | None:
        """Return the inner link into output `slot` of the instance, matched by name."""
        name = self.own_outputs[slot]["name"] if 0 <= slot < len(self.own_outputs) else ""
        return self.definition.exits.get(self.definition.output_numbers.get(name, slot))


class _Builder:
    """Builds the tree of scopes, with limits on its size."""

    def __init__(self, definitions: Mapping[str, Mapping[str, Any]], registry: Registry):
        self.raw, self.registry = definitions, registry
        self.known: dict[str, Definition] = {}
        self.widgets: dict[str, dict[str, WidgetInput]] = {}
        self.promoted: dict[int, tuple[dict, dict]] = {}
        self.types: dict[str, dict[tuple[str, str], str]] = {}
        self.nodes = self.values = 0

    def build(self, workflow: Mapping[str, Any]) -> Scope:
        root = Scope((), self._counted(read_layout(workflow)))
        waiting = [root]
        while waiting:
            scope = waiting.pop()
            for node_id, node in scope.nodes.items():
                if node["type"] in self.raw:
                    child = self._open(scope, node)
                    scope.children[node_id] = child
                    waiting.append(child)
        return root

    def _counted(self, layout: Layout) -> Layout:
        self.nodes += len(layout.nodes)
        self.values += layout.values
        for count, most, what in (
            (self.nodes, MOST_NODES, "nodes"), (self.values, MOST_VALUES, "inputs and values")
        ):  # fmt: skip
            if count > most:
                raise WorkflowError(f"the workflow has more than {most:,} {what}, those in its "
                                    "subgraphs counted once per instance")  # fmt: skip
        return layout

    def _definition(self, type_: str) -> Definition:
        if type_ not in self.known:
            raw = self.raw[type_]
            refuse_many(raw, f'subgraph "{shown(raw.get("name") or type_)}"')
            self.known[type_] = Definition(raw, read_layout(raw))
        return self.known[type_]

    def _open(self, scope: Scope, node: dict) -> Scope:
        _refuse_recursion(scope, node)
        path = (*scope.path, id_text(node["id"]))
        definition = self._definition(node["type"])
        child = Scope(path, self._counted(definition.layout), definition, scope, node)
        by_input, by_node = self._promoted(node)
        child.by_input, child.by_node = dict(by_input), {k: dict(v) for k, v in by_node.items()}
        promoted = scope.by_node.get(path[-1], {})
        if promoted:
            self._pass_on(child, promoted)
        return child

    def _promoted(self, node: dict) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Return an instance's promoted values, read once per node of a definition, however many
        instances contain it."""
        if id(node) not in self.promoted:
            widgets = {name: one.kind for name, one in self._widget_inputs(node["type"]).items()}
            inner = self._types_inside(node["type"])
            self.promoted[id(node)] = promoted_values(node, widgets, inner)
        return self.promoted[id(node)]

    def _pass_on(self, child: Scope, values: Mapping[str, Any]) -> None:
        """Pass the values that an outer scope promotes from `child` on to its inputs and inner
        widgets: by name, or for "id: name" to the widget of that inner node."""
        widgets = self._widget_inputs(child.instance["type"])
        by_place = {(one.node_id, one.widget): name for name, one in widgets.items()}
        by_name = {one.widget: name for name, one in reversed(widgets.items())}
        proxied = [place for place in proxies(child.instance) if place[0] != OWN]
        by_proxy = {widget: node_id for node_id, widget in reversed(proxied)}
        for name, value in values.items():
            inner = _INNER_WIDGET.fullmatch(name)
            if inner and inner[1] in child.nodes:
                child.by_node.setdefault(inner[1], {})[inner[2]] = value
                own = by_place.get((inner[1], inner[2]))
            else:
                own = name if name in widgets else by_name.get(name)
                if name in by_proxy:
                    child.by_node.setdefault(by_proxy[name], {})[name] = value
            if own is not None:
                child.by_input[own] = value

    # Widgets inside definitions.

    def _widget_inputs(self, type_: str, depth: int = 0) -> dict[str, WidgetInput]:
        """Return a definition's widget inputs, by name."""
        if type_ not in self.widgets:
            _refuse_depth(depth)
            self.widgets[type_] = {}  # Ends the recursion if a definition contains itself.
            definition = self._definition(type_)
            for index, slot in enumerate(definition.inputs):
                places = (self._place(definition, link, depth)
                          for link in definition.entries.get(index, ()))  # fmt: skip
                place = next(filter(None, places), None)
                if place is not None:
                    found = WidgetInput(str(slot.get("type", "*")), *place)
                    self.widgets[type_][slot["name"]] = found
        return self.widgets[type_]

    def _place(self, definition: Definition, link: UiLink, depth: int) -> Place | None:
        """Return the inner node's id and widget name that a link feeds; None if it is no widget."""
        node, slot = definition.layout.slot_of.get(link.id, (None, None))
        if node is None:
            return None
        if node["type"] in self.raw:
            is_one = slot["name"] in self._widget_inputs(node["type"], depth + 1)
        else:
            is_one = is_widget(slot, self.registry.get(node["type"]))
        return (id_text(node["id"]), widget_name(slot) or slot["name"]) if is_one else None

    def _types_inside(self, type_: str) -> dict[tuple[str, str], str]:
        """Return the types of the inner nodes' saved widget inputs, by (node id, name)."""
        if type_ not in self.types:
            self.types[type_] = {
                (node_id, widget_name(slot)): str(slot.get("type", "*"))
                for node_id, node in self._definition(type_).layout.nodes.items()
                for slot in slots(node, "inputs")
                if widget_name(slot)
            }
        return self.types[type_]


def build_scope(
    workflow: Mapping[str, Any], definitions: Mapping[str, Mapping[str, Any]], registry: Registry
) -> Scope:
    """Return the root scope of a workflow with, below it, one scope per subgraph instance.

    Raises WorkflowError for malformed parts, for subgraphs that contain themselves or are nested
    deeper than 50 levels, and above 10,000 nodes or 300,000 inputs and values in total.
    """
    return _Builder(definitions, registry).build(workflow)


def collect_definitions(workflow: Mapping[str, Any]) -> dict[str, dict]:
    """Return all subgraph definitions by id, including those inside other definitions."""
    found: dict[str, dict] = {}
    waiting = [workflow]
    while waiting:
        for definition in _listed_definitions(waiting.pop()):
            key = id_text(definition.get("id"))
            if key is not None and key not in found:
                found[key] = definition
                waiting.append(definition)
    return found


def _listed_definitions(graph: Mapping[str, Any]) -> Iterator[dict]:
    definitions = graph.get("definitions")
    listed = definitions.get("subgraphs") if isinstance(definitions, dict) else None
    yield from (
        one for one in (listed if isinstance(listed, list) else []) if isinstance(one, dict)
    )


def _refuse_depth(depth: int) -> None:
    if depth >= DEEPEST:
        raise WorkflowError(f"the workflow's subgraphs are nested more than {DEEPEST} levels deep")


def _refuse_recursion(scope: Scope, node: dict) -> None:
    _refuse_depth(len(scope.path))
    while scope is not None and scope.instance is not None:
        if scope.instance["type"] == node["type"]:
            name = scope.definition.raw.get("name") or node["type"]
            raise WorkflowError(f'subgraph "{shown(name)}" contains itself (at {name_of(node)})')
        scope = scope.parent
