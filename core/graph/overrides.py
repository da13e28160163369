"""Overrides of single values of a workflow, NODE.INPUT=VALUE on the command line, and the seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from .messages import shown
from .schema import (
    SEED_NAMES,
    Graph,
    Node,
    NodeSpec,
    Registry,
    WorkflowError,
    describe,
    did_you_mean,
)
from .values import check, parse, show_choices

SHOWN_NODES = 8


def apply_overrides(
    graph: Graph,
    settings: Sequence[str],
    registry: Registry,
    *,
    files: Callable[[str], str] = str,
) -> Graph:
    """Return the graph with each "NODE.INPUT=VALUE" applied, in order.

    NODE is an id, a title or a class name, in that order of preference, and must match one node.
    VALUE is parsed as the input's type, checked, and replaces a wire if there is one. Choosing
    another option of a dynamic combo sets the inputs that it opens to their defaults. `files` maps
    a VALUE that is not among a combo's choices, such as a path, to the file name that the nodes
    use. Raises WorkflowError with one sentence that quotes the setting.
    """
    for setting in settings:
        graph = _apply(graph, setting, registry, files)
    return graph


def apply_seed(graph: Graph, seed: int, registry: Registry | None = None) -> Graph:
    """Return the graph with every seed set: inputs named "seed" or "noise_seed"; with a registry,
    also INT inputs with "control_after_generate".

    Raises WorkflowError if no node takes a seed, or if it is out of a node's range.
    """
    changed = {}
    for node in graph.nodes.values():
        spec = registry.get(node.class_type) if registry is not None else None
        for name in _seed_inputs(node, spec):
            changed[node.id] = _set(changed.get(node.id, node), name, _seed(node, spec, name, seed))
    if not changed:
        names = ", ".join(f'"{name}"' for name in SEED_NAMES)
        raise WorkflowError(f"seed {shown(seed)} cannot be set because none of the "
                            f"{len(graph.nodes)} nodes has an input {names}")  # fmt: skip
    return replace(graph, nodes={**graph.nodes, **changed})


def _seed_inputs(node: Node, spec: NodeSpec | None) -> list[str]:
    if spec is None:
        return [name for name in SEED_NAMES if name in node.inputs]
    live = spec.live_inputs(node.inputs)
    return [n for n, one in live.items() if one.type == "INT" and (one.has_control or _seedy(n))]


def _seedy(name: str) -> bool:
    return name.rpartition(".")[2] in SEED_NAMES


def _seed(node: Node, spec: NodeSpec | None, name: str, seed: int) -> int:
    if spec is None:
        return seed
    try:
        return check(seed, spec.live_inputs(node.inputs)[name])
    except ValueError as error:
        raise WorkflowError(f'{describe(node)}: input "{name}" {error}') from error


def _apply(graph: Graph, setting: str, registry: Registry, files: Callable) -> Graph:
    left, equals, text = setting.partition("=")
    quoted = f'"{shown(setting)}"'
    if not equals or "." not in left:
        raise WorkflowError(f"{quoted} is not a setting, expected NODE.INPUT=VALUE")
    node, name = _target(graph, left.strip(), quoted)
    spec = registry.get(node.class_type)
    if spec is None:
        raise WorkflowError(f"{quoted}: {describe(node)} is of an unknown type")
    one = spec.live_inputs(node.inputs).get(name)
    if one is not None and one.dynamic is None and one.is_combo and text not in one.choices():
        text = files(text)
    value = _read(node, spec, name, text, quoted)
    inputs = _refresh(node, spec, name, value)
    return replace(graph, nodes={**graph.nodes, node.id: replace(node, inputs=inputs)})


def _read(node: Node, spec: NodeSpec, name: str, text: str, quoted: str) -> Any:
    live = spec.live_inputs(node.inputs)
    if name not in live:
        known = show_choices([n for n, one in live.items() if one.kind == "widget"])
        hint = did_you_mean(name, list(live))
        raise WorkflowError(f'{quoted}: {describe(node)} has no input "{shown(name)}", expected '
                            f"one of {known}{hint}")  # fmt: skip
    if live[name].kind != "widget":
        raise WorkflowError(f'{quoted}: input "{name}" of {describe(node)} takes a wire of type '
                            f"{live[name].type}, not a value")  # fmt: skip
    try:
        return parse(text, live[name])
    except ValueError as error:
        raise WorkflowError(f'{quoted}: input "{name}" of {describe(node)} {error}') from error


def _target(graph: Graph, left: str, quoted: str) -> tuple[Node, str]:
    """Split NODE.INPUT into a node and an input name, both of which may contain dots."""
    for handle, name in _splits(left):
        found = _find(graph, handle)
        if len(found) > 1:
            ids = show_choices([node.id for node in found])
            raise WorkflowError(f'{quoted}: "{shown(handle)}" means {len(found)} nodes, expected '
                                f"one of the ids {ids}")  # fmt: skip
        if found:
            return found[0], name
    nodes = graph.nodes.values()
    handles = [*graph.nodes, *(n.title for n in nodes if n.title), *(n.class_type for n in nodes)]
    handle = left.partition(".")[0]
    names = [shown(n.title or n.class_type, 30) for n in nodes]
    near = did_you_mean(handle, handles) or f": {', '.join(names[:SHOWN_NODES])}"
    more = ", ..." if near.startswith(":") and len(names) > SHOWN_NODES else ""
    raise WorkflowError(f'{quoted}: there is no node "{shown(handle)}" among the '
                        f"{len(graph.nodes)} nodes{near}{more}")  # fmt: skip


def _splits(left: str) -> Iterator[tuple[str, str]]:
    """Yield all splits at a dot, the longest node name first."""
    dots = [index for index, letter in enumerate(left) if letter == "."]
    for dot in reversed(dots):
        yield left[:dot], left[dot + 1 :]


def _find(graph: Graph, handle: str) -> list[Node]:
    if handle in graph.nodes:
        return [graph.nodes[handle]]
    nodes = list(graph.nodes.values())
    titled = [node for node in nodes if node.title == handle]
    return titled or [node for node in nodes if node.class_type == handle]


def _set(node: Node, name: str, value: Any) -> Node:
    return replace(node, inputs={**node.inputs, name: value})


def _refresh(node: Node, spec: NodeSpec, name: str, value: Any) -> dict[str, Any]:
    """Set a value; for a dynamic combo, drop inputs that it no longer opens and add defaults for
    the new ones."""
    inputs = {**node.inputs, name: value}
    live = spec.live_inputs(inputs)
    below = f"{name}."
    inputs = {n: v for n, v in inputs.items() if n in live or not n.startswith(below)}
    for opened, one in live.items():
        fresh = opened.startswith(below) and opened not in inputs and one.kind == "widget"
        if fresh and one.initial() is not None:
            inputs[opened] = one.initial()
    return inputs
