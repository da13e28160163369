"""Replaces %Node.widget% in file name prefixes by the value of that node's widget.

ComfyUI's frontend does so before it queues a workflow; workflows run without a frontend get the
same here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from .schema import Graph, Link, Node, Registry

PREFIX = "filename_prefix"
SEARCH_NAME = "Node name for S&R"
CODE = re.compile(r"%([^%]+)%")
NOT_IN_NAMES = re.compile(r'[/?<>\\:*|"\x00-\x1F\x7F]')


def fill_in_prefixes(graph: Graph, registry: Registry) -> Graph:
    """Return the graph with the codes in all its prefixes filled in; unknown codes are kept."""
    values = NodeValues(graph, registry)
    changed = {}
    for node in graph.nodes.values():
        prefix = node.inputs.get(PREFIX)
        filled = values.fill_in(prefix) if isinstance(prefix, str) else prefix
        if filled != prefix:
            changed[node.id] = replace(node, inputs={**node.inputs, PREFIX: filled})
    return replace(graph, nodes={**graph.nodes, **changed}) if changed else graph


class NodeValues:
    """The widget values of a graph's nodes by "node name.widget name".

    A node's name is its "Node name for S&R" or, if no node has that, its title; of several nodes
    with one name, the first is used.
    """

    def __init__(self, graph: Graph, registry: Registry):
        self.graph, self.registry = graph, registry

    def fill_in(self, text: str) -> str:
        return CODE.sub(lambda match: self._text(match[1], match[0]), text)

    def _text(self, code: str, as_it_is: str) -> str:
        name, dot, widget = code.partition(".")
        if not dot or "." in widget or code.startswith("date:"):
            return as_it_is
        found = self._by_search_name.get(name) or self._by_title.get(name) or {}
        value = found.get(widget, found)
        if isinstance(value, (Link, list, Mapping)):
            return as_it_is
        return NOT_IN_NAMES.sub("_", _written(value))

    @cached_property
    def _by_search_name(self) -> dict[str, Mapping[str, Any]]:
        found: dict[str, Mapping[str, Any]] = {}
        for node in self.graph.nodes.values():
            found.setdefault(self._search_name(node), node.inputs)
        return found

    @cached_property
    def _by_title(self) -> dict[str, Mapping[str, Any]]:
        found: dict[str, Mapping[str, Any]] = {}
        for node in self.graph.nodes.values():
            spec = self.registry.get(node.class_type)
            found.setdefault(node.title or (spec.display_name if spec else ""), node.inputs)
        for title, inputs in self._primitives():
            found.setdefault(title, inputs)
        return found

    def _search_name(self, node: Node) -> str:
        """A node's "Node name for S&R"; in an API prompt, as in the frontend, its class name."""
        if self.graph.workflow is None:
            return node.class_type
        properties = self._drawn(node.id).get("properties")
        name = properties.get(SEARCH_NAME) if isinstance(properties, Mapping) else None
        return name if isinstance(name, str) else ""

    def _drawn(self, node_id: str) -> Mapping[str, Any]:
        """A node in the UI format; "5:3" is node 3 of the subgraph of node 5."""
        within, found = "", {}
        for part in node_id.split(":"):
            found = self._indices.get(within, {}).get(part, {})
            within = str(found.get("type"))
        return found

    @cached_property
    def _indices(self) -> dict[str, dict[str, Mapping[str, Any]]]:
        """The nodes of the workflow (under "") and of each subgraph, by id."""
        workflow = self.graph.workflow or {}
        definitions = workflow.get("definitions")
        inner = definitions.get("subgraphs") if isinstance(definitions, Mapping) else None
        named = [("", workflow)]
        named += [(str(one.get("id")), one) for one in inner or () if isinstance(one, Mapping)]
        return {name: {str(node.get("id")): node for node in _nodes_of(one)} for name, one in named}

    def _primitives(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Title and value of the PrimitiveNodes, which exist in the frontend but not in prompts."""
        for node in self._indices[""].values():
            values = node.get("widgets_values")
            if node.get("type") == "PrimitiveNode" and isinstance(values, list) and values:
                yield str(node.get("title") or "Primitive"), {"value": values[0]}


def _nodes_of(graph: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    nodes = graph.get("nodes")
    return (one for one in nodes if isinstance(one, Mapping)) if isinstance(nodes, list) else ()


def _written(value: Any) -> str:
    """A value formatted as JavaScript does."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    return "" if value is None else str(value)
