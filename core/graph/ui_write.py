"""Converts an API prompt to a UI workflow (schema 0.4) with a layout."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .api_format import graph_from_api
from .messages import shown
from .schema import Graph, Link, Node, NodeSpec, Registry, WorkflowError, describe, did_you_mean
from .validate import FRONTEND_LEFTOVERS
from .widgets import complete, write_widgets

NODE_WIDTH, COLUMN_GAP, ROW_GAP = 320, 90, 60
OPTIONAL_SHAPE = 7
# With a fixed namespace, a workflow's id is a function of its content.
NAMESPACE = uuid.UUID("7c3f5e0e-6f0c-5a58-9b2e-0d6c4a1f7b52")

Pack = Callable[[NodeSpec], tuple[str, str]]


def to_ui(
    api: Mapping[str, Any],
    registry: Registry,
    *,
    pack: Pack = lambda spec: ("videoldm", ""),
    models: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Lay out an API prompt as a UI workflow: one column per depth, wires from left to right.

    `pack` returns the pack name and version of a node (its "cnr_id" and "ver"); `models` (dicts
    with name, url, directory) are listed in the workflow and on each node that has one of their
    names as a value. Raises WorkflowError for node types and inputs unknown to the registry, and
    for cycles.
    """
    graph = graph_from_api(api)
    for node in graph.nodes.values():
        _refuse_unknown(node, graph, registry)
    links = _number_links(graph)
    places = _layout(graph, registry)
    order = sorted(graph.nodes.values(), key=lambda node: places[node.id][:2])
    nodes = [
        {**_write_node(node, registry[node.class_type], links, pack, models),
         "outputs": _output_slots(node, registry[node.class_type], graph, links),
         "pos": list(places[node.id][2:]), "order": index}
        for index, node in enumerate(order)
    ]  # fmt: skip
    return {
        "id": str(uuid.uuid5(NAMESPACE, json.dumps(api, sort_keys=True, default=str))),
        "revision": 0,
        "last_node_id": max([n["id"] for n in nodes if isinstance(n["id"], int)], default=0),
        "last_link_id": len(links),
        "nodes": nodes,
        "links": _write_links(graph, registry, links),
        "groups": [],
        "config": {},
        "extra": {},
        "models": [dict(model) for model in models],
        "version": 0.4,
    }


def _refuse_unknown(node: Node, graph: Graph, registry: Registry) -> None:
    spec = registry.get(node.class_type)
    if spec is None:
        hint = did_you_mean(node.class_type, list(registry))
        raise WorkflowError(f"{describe(node)} is of an unknown type{hint}")
    live = spec.live_inputs(node.inputs)
    for name, value in node.inputs.items():
        if isinstance(value, Link) and value.node_id not in graph.nodes:
            raise WorkflowError(f"{describe(node)} is wired to node {shown(value.node_id)} at its "
                                f'input "{shown(name)}", which does not exist')  # fmt: skip
        if isinstance(value, Link) and (name in live or spec.accept_all_inputs):
            continue
        if name not in FRONTEND_LEFTOVERS and not (name in live and live[name].takes(value)):
            raise WorkflowError(f'{describe(node)} has no widget for its input "{shown(name)}"'
                                f"{did_you_mean(name, list(live))}")  # fmt: skip


def _number_links(graph: Graph) -> dict[tuple[str, str], int]:
    """Number the wires by (node id, input name), from 1."""
    wired = [(node.id, name) for node in graph.nodes.values() for name in node.links]
    return {key: number for number, key in enumerate(wired, start=1)}


def _slot_names(node: Node, spec: NodeSpec) -> list[str]:
    """Return the inputs that become slots: all sockets, and wired widgets."""
    live = spec.live_inputs(node.inputs)
    shown = [name for name, one in live.items() if one.kind == "socket" or name in node.links]
    return shown + [name for name in node.links if name not in live]


def _write_node(
    node: Node, spec: NodeSpec, links: Mapping, pack: Pack, models: Sequence[Mapping]
) -> dict[str, Any]:
    listed, named = write_widgets(_widget_values(node, spec), spec)
    live = spec.live_inputs(node.inputs)
    inputs = [_input_slot(node, name, live.get(name), links) for name in _slot_names(node, spec)]
    cnr_id, version = pack(spec)
    used = [dict(model) for model in models if model.get("name") in _hashable(named.values())]
    return {
        "id": _ui_id(node.id),
        "type": node.class_type,
        "title": node.title or spec.display_name or node.class_type,
        "size": [NODE_WIDTH, _height(node, spec)],
        "flags": {},
        "mode": 0,
        "inputs": inputs,
        "properties": {
            "Node name for S&R": node.class_type,
            "cnr_id": cnr_id,
            "ver": version,
            **({"models": used} if used else {}),
        },
        "widgets_values": listed,
        "widgets_values_named": named,
    }


def _hashable(values: Any) -> list:
    return [value for value in values if isinstance(value, str)]


def _widget_values(node: Node, spec: NodeSpec) -> dict[str, Any]:
    constants = {k: v for k, v in node.inputs.items() if not isinstance(v, Link)}
    return complete(constants, spec)


def _input_slot(node: Node, name: str, spec: Any, links: Mapping) -> dict[str, Any]:
    slot = {"name": name, "type": spec.type if spec else "*"}
    if spec and not spec.required:
        slot["shape"] = OPTIONAL_SHAPE
    if spec and spec.kind == "widget":
        slot["widget"] = {"name": name}
    return {**slot, "link": links.get((node.id, name))}


def _output_slots(node: Node, spec: NodeSpec, graph: Graph, links: Mapping) -> list[dict]:
    leaving: dict[int, list[int]] = {}
    for (target, name), number in links.items():
        link = graph.nodes[target].links[name]
        if link.node_id == node.id:
            leaving.setdefault(link.slot, []).append(number)
    return [
        {"name": one.name, "type": one.type, "slot_index": index, "links": leaving.get(index, [])}
        for index, one in enumerate(spec.outputs)
    ]


def _write_links(graph: Graph, registry: Registry, links: Mapping) -> list[list]:
    written = []
    for (node_id, name), number in links.items():
        node = graph.nodes[node_id]
        link = node.links[name]
        slot = _slot_names(node, registry[node.class_type]).index(name)
        kind = registry[graph.nodes[link.node_id].class_type].outputs[link.slot].type
        written.append([number, _ui_id(link.node_id), link.slot, _ui_id(node_id), slot, kind])
    return written


def _ui_id(node_id: str) -> int | str:
    """Return the id as an int if it is the decimal form of one."""
    return int(node_id) if node_id.isdecimal() and str(int(node_id)) == node_id else node_id


def _layout(graph: Graph, registry: Registry) -> dict[str, tuple[int, int, int, int]]:
    """Return (depth, row, x, y) per node."""
    depths = _depths(graph)
    filled: dict[int, list[int]] = {}
    places = {}
    for node in graph.nodes.values():
        column = filled.setdefault(depths[node.id], [])
        x = 40 + depths[node.id] * (NODE_WIDTH + COLUMN_GAP)
        places[node.id] = (depths[node.id], len(column), x, 60 + sum(column))
        column.append(_height(node, registry[node.class_type]) + ROW_GAP)
    return places


def _depths(graph: Graph) -> dict[str, int]:
    """Return the length of the longest path to each node from a node without wired inputs."""
    depths = dict.fromkeys(graph.nodes, 0)
    for _ in range(len(graph.nodes) + 1):
        before = dict(depths)
        for node in graph.nodes.values():
            above = [depths.get(link.node_id, 0) + 1 for link in node.links.values()]
            depths[node.id] = max([0, *above])
        if depths == before:
            return depths
    raise WorkflowError("the workflow cannot be laid out because its wires form a cycle")


def _height(node: Node, spec: NodeSpec) -> int:
    live = spec.live_inputs(node.inputs).values()
    widgets = [one for one in live if one.kind == "widget"]
    slots = max(len(_slot_names(node, spec)), len(spec.outputs))
    return 40 + 22 * slots + sum(120 if one.multiline else 28 for one in widgets)
