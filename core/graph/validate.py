"""Finds the problems of a workflow before it runs."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .messages import first_line, printable, shown, written
from .schema import (
    NEW_WIDGETS,
    Graph,
    InputSpec,
    Link,
    Node,
    NodeSpec,
    Registry,
    WorkflowError,
    describe,
    did_you_mean,
    nest_inputs,
    types_match,
)
from .values import check, coerce, show_choices

# Widgets without a node input, which older frontends wrote into API prompts.
FRONTEND_LEFTOVERS = (
    "upload",
    "control_after_generate",
    "control_filter_list",
    "videopreview",
    "video-preview",
    "audioUI",
    "$$canvas-image-preview",
)

HINTS = 20  # Finding a similar name takes a millisecond, too long for thousands of them.
SHOWN_IN_CYCLE, CYCLES, PROBLEMS = 8, 10, 1000


@dataclass(frozen=True)
class Problem:
    """One problem; `message` is one sentence with node, input, and expected and given value."""

    code: str
    message: str
    node_id: str | None = None
    input: str | None = None

    def __str__(self) -> str:
        return self.message


class InvalidWorkflow(WorkflowError):
    """A workflow that does not pass `validate`; the message is the first problem's, with a count of
    the others."""

    def __init__(self, problems: Sequence[Problem]):
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(f"{problems[0].message}{more}")
        self.problems = tuple(problems)


def validate(
    graph: Graph, registry: Registry, targets: Sequence[str] | None = None
) -> list[Problem]:
    """Return the problems of a workflow, unknown types first; an empty list means it can run.

    As in ComfyUI, unknown types count anywhere, other problems only in nodes that an output node
    (or one of `targets`) depends on. Unlike there, an unknown input is a problem. Stops checking
    nodes after PROBLEMS problems.
    """
    problems = list(_unknown_types(graph, registry))
    ends = list(targets) if targets is not None else output_nodes(graph, registry)
    if not ends and not problems:
        problems.append(_no_output(graph, registry))
    for end in [end for end in ends if end not in graph.nodes]:
        message = (
            f"there is no node {shown(end)} to run among the workflow's {len(graph.nodes)} nodes"
        )
        problems.append(Problem("missing_node", message, end))
    needed = upstream(graph, ends) if ends else list(graph.nodes)
    for node_id in needed:
        node = graph.nodes[node_id]
        if node.class_type in registry and len(problems) < PROBLEMS:
            problems += _Check(node, graph, registry).problems()
    return problems + [_cycle_problem(graph, cycle) for cycle in cycles(graph, needed)]


def require_valid(graph: Graph, registry: Registry, targets: Sequence[str] | None = None) -> None:
    """Raise InvalidWorkflow if `validate` finds a problem."""
    problems = validate(graph, registry, targets)
    if problems:
        raise InvalidWorkflow(problems)


def output_nodes(graph: Graph, registry: Registry) -> list[str]:
    """Return the ids of the nodes that save or show something."""
    specs = {node.id: registry.get(node.class_type) for node in graph.nodes.values()}
    return [node_id for node_id, spec in specs.items() if spec and spec.is_output_node]


def upstream(graph: Graph, ends: Sequence[str]) -> list[str]:
    """Return `ends` and every node that they depend on, in the graph's order."""
    found: set[str] = set()
    waiting = [end for end in ends if end in graph.nodes]
    while waiting:
        node_id = waiting.pop()
        if node_id not in found:
            found.add(node_id)
            sources = [link.node_id for link in graph.nodes[node_id].links.values()]
            waiting += [source for source in sources if source in graph.nodes]
    return [node_id for node_id in graph.nodes if node_id in found]


def cycles(graph: Graph, among: Sequence[str]) -> list[list[str]]:
    """Return at most CYCLES cycles reachable upstream of `among`, each as node ids in the direction
    of the data."""
    found: list[list[str]] = []
    finished: set[str] = set()
    for start in among:
        path: dict[str, None] = {}
        waiting = [] if start in finished else [(start, False)]
        while waiting and len(found) < CYCLES:
            node_id, leaving = waiting.pop()
            if leaving:
                del path[node_id]
                finished.add(node_id)
            elif node_id in path:
                way = list(path)
                found.append(way[way.index(node_id) :][::-1])
            elif node_id not in finished and node_id in graph.nodes:
                path[node_id] = None
                waiting.append((node_id, True))
                sources = [link.node_id for link in graph.nodes[node_id].links.values()]
                waiting += [(source, False) for source in dict.fromkeys(sources)]
    return found


def _cycle_problem(graph: Graph, cycle: list[str]) -> Problem:
    names = [describe(graph.nodes[node_id]) for node_id in (*cycle, cycle[0])]
    return Problem("cycle", f"the wires form a cycle: {show_cycle(names)}", cycle[0])


def show_cycle(names: Sequence[str]) -> str:
    """Return the names along a cycle as one text, shortened in the middle if long."""
    if len(names) > SHOWN_IN_CYCLE:
        left_out = f"{len(names) - SHOWN_IN_CYCLE} more"
        names = [*names[: SHOWN_IN_CYCLE - 1], left_out, names[-1]]
    return " -> ".join(names)


def _unknown_types(graph: Graph, registry: Registry) -> Iterator[Problem]:
    unknown = [node for node in graph.nodes.values() if node.class_type not in registry]
    for count, node in enumerate(unknown):
        hint = did_you_mean(node.class_type, list(registry)) if count < HINTS else ""
        if node.class_type.startswith(("workflow/", "workflow>")):
            hint = ", a legacy group node, which must be converted to a subgraph first"
        message = f"{describe(node)} is of an unknown type{hint}"
        yield Problem("unknown_node", message, node.id)


def _no_output(graph: Graph, registry: Registry) -> Problem:
    known = [
        spec.id for spec in registry.values() if spec.is_output_node and not spec.is_deprecated
    ]
    message = (
        f"none of the workflow's {len(graph.nodes)} nodes is an output node, expected one that "
        f"saves or shows something, such as {show_choices(known[:4])}"
    )
    return Problem("no_output", message + graph.left_out())


class _Check:
    """The checks of one node of known type."""

    def __init__(self, node: Node, graph: Graph, registry: Registry):
        self.node, self.graph, self.registry = node, graph, registry
        self.spec: NodeSpec = registry[node.class_type]
        self.own = parameters(self.spec.validate_inputs)

    def problems(self) -> list[Problem]:
        live = self.spec.live_inputs(self.node.inputs)
        found = [*self._missing(live), *self._unknown(live)]
        for name, value in self.node.inputs.items():
            problem = self._wire(name, value, live) if isinstance(value, Link) else None
            if name in live and not isinstance(value, Link):
                problem = self._value(value, live[name])
            if problem is not None:
                found.append(problem)
        return found or self._rejected()

    def _problem(self, code: str, name: str, text: str) -> Problem:
        message = f'{describe(self.node)}: input "{shown(name)}" {text}'
        return Problem(code, message, self.node.id, name)

    def _missing(self, live: dict[str, InputSpec]) -> Iterator[Problem]:
        for name, spec in live.items():
            if spec.required and name not in self.node.inputs:
                what = "a wire" if spec.kind == "socket" else "a value"
                text = f"is missing, expected {what} of type {spec.type}"
                near = did_you_mean(name, [n for n in self.node.inputs if n not in live])
                yield self._problem("missing_input", name, text + near)

    def _unknown(self, live: dict[str, InputSpec]) -> Iterator[Problem]:
        for name in self.node.inputs:
            known = name in live or name in FRONTEND_LEFTOVERS or self.spec.accept_all_inputs
            if not known:
                near = did_you_mean(name, list(live))
                text = f"does not exist, expected {_any_of(live)}{near}"
                yield self._problem("unknown_input", name, text)

    def _wire(self, name: str, link: Link, live: dict[str, InputSpec]) -> Problem | None:
        source = self.graph.nodes.get(link.node_id)
        if source is None:
            text = f"is wired to node {shown(link.node_id)}, which does not exist"
            return self._problem("missing_node", name, text)
        spec = self.registry.get(source.class_type)
        if spec is None:
            return None
        if not 0 <= link.slot < len(spec.outputs):
            text = (
                f"is wired to output {shown(link.slot)} of {describe(source)}, which has "
                f"{len(spec.outputs)} outputs (counted from 0)"
            )
            return self._problem("missing_output", name, text)
        output = spec.outputs[link.slot]
        wanted = live[name].type if name in live else "*"
        if "input_types" in self.own or types_match(output.type, wanted):
            return None
        text = f'expected {wanted}, given {output.type} by output "{output.name}" of '
        return self._problem("wrong_type", name, text + describe(source))

    def _value(self, value: Any, spec: InputSpec) -> Problem | None:
        if value is None and not spec.required:
            return None
        if spec.kind == "socket" and not _may_be_a_value(value, spec.type):
            text = f"expected a wire of type {spec.type}, given the value {written(value)}"
            return self._problem("bad_value", spec.name, text)
        # A node's own check of this input replaces that of range and choices, except for file
        # names, where the choices give the better message.
        is_own = spec.name in self.own and spec.accepts is None
        try:
            coerce(value, spec) if is_own else check(value, spec)
        except ValueError as error:
            return self._problem("bad_value", spec.name, str(error))
        return None

    def _rejected(self) -> list[Problem]:
        """Call the node's own `validate_inputs`, with its constants and None for wires."""
        if self.spec.validate_inputs is None:
            return []
        try:
            verdict = self.spec.validate_inputs(**self._own_arguments())
        except Exception as error:
            verdict = first_line(error)
        if verdict is True or verdict is None:
            return []
        reason = printable(verdict) if isinstance(verdict, str) else ""
        reason = reason or "its inputs are rejected by the node"
        return [Problem("rejected", f"{describe(self.node)}: {reason}", self.node.id)]

    def _own_arguments(self) -> dict[str, Any]:
        given = constants(self.node, self.spec)
        arguments = {k: v for k, v in given.items() if k in self.own or "**" in self.own}
        if "input_types" in self.own:
            arguments["input_types"] = self._wire_types()
        return arguments

    def _wire_types(self) -> dict[str, str]:
        sources = {n: (self.graph.nodes[k.node_id], k.slot) for n, k in self.node.links.items()}
        specs = {n: (self.registry.get(s.class_type), slot) for n, (s, slot) in sources.items()}
        return {n: spec.outputs[slot].type for n, (spec, slot) in specs.items() if spec}


def _may_be_a_value(value: Any, type_: str) -> bool:
    """Whether a socket of this type accepts a plain value."""
    if type_ in NEW_WIDGETS:
        return isinstance(value, Mapping)
    return type_ in ("INT", "FLOAT", "STRING", "BOOLEAN", "*")


def constants(node: Node, spec: NodeSpec) -> dict[str, Any]:
    """Return a node's plain values, converted to the inputs' types, with None for wires and dynamic
    inputs nested."""
    live = spec.live_inputs(node.inputs)
    values: dict[str, Any] = {}
    for name, value in node.inputs.items():
        if isinstance(value, Link):
            values[name] = None
        elif name in live:
            values[name] = _coerced(value, live[name])
        elif spec.accept_all_inputs:
            values[name] = value
    return nest_inputs(spec, values)


def _coerced(value: Any, spec: InputSpec) -> Any:
    try:
        return coerce(value, spec)
    except ValueError:
        return value


def parameters(function: Any) -> set[str]:
    """Return a function's parameter names, with "**" if it has a **kwargs."""
    if function is None:
        return set()
    found = inspect.signature(function).parameters.values()
    return {"**" if p.kind is p.VAR_KEYWORD else p.name for p in found}


def _any_of(live: dict[str, InputSpec]) -> str:
    return f"one of {show_choices(list(live))}" if live else "no inputs at all"
