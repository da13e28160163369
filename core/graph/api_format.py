"""The API format: {id: {"class_type", "inputs", "_meta"}}, where a list [id, slot] is a wire."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .messages import kind_of, shown, written
from .schema import MOST_NODES, Graph, Link, Node, WorkflowError, describe

WRAPPERS = ("prompt", "output")
# Prefix of the frontend's own widgets, such as previews; nodes do not read them.
FRONTEND_ONLY = "$$"


def is_api(data: Any) -> bool:
    """Return whether `data` is an API prompt: a dict with at least one {"class_type": ...}."""
    if not isinstance(data, dict) or not data or "nodes" in data:
        return False
    return any(isinstance(node, dict) and "class_type" in node for node in data.values())


def unwrap_api(data: Any) -> dict[str, Any] | None:
    """Return the API prompt in `data`, bare or wrapped as {"prompt": {...}}, or None."""
    if is_api(data):
        return data
    if isinstance(data, dict):
        for key in WRAPPERS:
            if is_api(data.get(key)):
                return data[key]
    return None


def graph_from_api(
    api: Mapping[str, Any], *, workflow: dict | None = None, source: str = "", dropped: tuple = ()
) -> Graph:
    """Read an API prompt; raises WorkflowError naming the malformed node."""
    if len(api) > MOST_NODES:
        raise WorkflowError(f"the workflow has {len(api):,} nodes, at most {MOST_NODES:,} are read")
    nodes = {str(node_id): read_node(str(node_id), raw, api) for node_id, raw in api.items()}
    return Graph(nodes, workflow, source, tuple(dropped))


def read_node(node_id: str, raw: Any, api: Mapping[str, Any]) -> Node:
    """Read one API node of the prompt `api`, whose ids tell wires from lists of two numbers."""
    if not isinstance(raw, dict) or not isinstance(raw.get("class_type"), str):
        raise WorkflowError(f'node {shown(node_id)} has no "class_type" that is a text')
    inputs = raw.get("inputs", {})
    if not isinstance(inputs, dict):
        raise WorkflowError(
            f'node {shown(node_id)} ({shown(raw["class_type"])}) has "inputs" that is '
            f"{kind_of(inputs)}, expected an object with the inputs by name"
        )
    meta = raw.get("_meta")
    title = meta.get("title") if isinstance(meta, dict) else None
    node = Node(node_id, raw["class_type"], {}, str(title or ""))
    for name, value in inputs.items():
        if not name.startswith(FRONTEND_ONLY):
            try:
                node.inputs[name] = read_value(value, api)
            except ValueError as error:
                raise WorkflowError(f'{describe(node)}: input "{shown(name)}" {error}') from error
    return node


def read_value(value: Any, api: Mapping[str, Any]) -> Any:
    """Turn [id, slot] into a Link and unwrap {"__value__": x}; return anything else unchanged.

    Raises ValueError for a wire whose slot is not a whole number.
    """
    if isinstance(value, list) and len(value) == 2 and _is_wire(value, api):
        slot = value[1]
        if slot is None or slot != slot // 1:
            raise ValueError(f"is wired to output {written(slot)} of node {shown(value[0])}, "
                             "expected a whole number")  # fmt: skip
        return Link(_id(value[0]), int(slot))
    if isinstance(value, dict) and "__value__" in value:
        return value["__value__"]
    return value


def write_value(value: Any) -> Any:
    """Turn a graph's value into its API format, the inverse of `read_value`."""
    if isinstance(value, Link):
        return [value.node_id, value.slot]
    return {"__value__": value} if isinstance(value, list) else value


def graph_to_api(graph: Graph) -> dict[str, Any]:
    """Write a graph as an API prompt."""
    return {node.id: write_node(node) for node in graph.nodes.values()}


def write_node(node: Node) -> dict[str, Any]:
    inputs = {name: write_value(value) for name, value in node.inputs.items()}
    written = {"class_type": node.class_type, "inputs": inputs}
    return {**written, "_meta": {"title": node.title}} if node.title else written


def _is_wire(pair: list, api: Mapping[str, Any]) -> bool:
    source, slot = pair
    if slot is None:  # An infinite slot is also parsed as None.
        return isinstance(source, str) and source in api
    return _is_number(slot) and (
        isinstance(source, str) or (_is_number(source) and _id(source) in api)
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _id(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
