"""`videoldm validate` and `videoldm nodes`, which run nothing."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ...core.graph import (
    InputSpec,
    NodeSpec,
    Registry,
    WorkflowError,
    fill_in_prefixes,
    load_workflow,
    validate,
)
from ...core.graph.messages import shown, shown_path
from ...core.graph.schema import did_you_mean
from .errors import INVALID, MISSING, OK, CommandError, exit_code
from .registry import configure, load_registry
from .run import is_missing_file, looked_in
from .signals import StopSignals
from .workflow_warnings import workflow_warnings

SHOWN_CHOICES = 30


# --------------------------------------------------------------------------------------------------
# Validating.


def validate_files(args: argparse.Namespace, stop: StopSignals) -> int:
    """Print "ok" or all problems of each file, and warnings; return the worst exit code."""
    host, registry = configure(args), load_registry()
    codes = []
    for file in args.files:
        code, nodes, problems, warnings = _check(file, registry, host)
        codes.append(code)
        if args.json:
            line = {"file": file, "valid": not problems, "nodes": nodes, "problems": problems}
            print(json.dumps(line | {"warnings": warnings}))
        elif not problems:
            print(f"{shown_path(file)}: ok ({nodes} nodes)")
        for problem in () if args.json else problems:
            print(f"{shown_path(file)}: {problem['message']}", file=sys.stderr)
        for warning in () if args.json else warnings:
            print(f"{shown_path(file)}: warning: {warning['message']}", file=sys.stderr)
    return max(codes)


def _check(
    file: str, registry: Registry, host: Any
) -> tuple[int, int, list[dict[str, Any]], list[dict[str, Any]]]:
    """The exit code, number of nodes, problems and warnings of a file."""
    try:
        graph = fill_in_prefixes(load_workflow(file, registry), registry)
    except WorkflowError as error:
        problem = {"code": "unreadable", "message": str(error), "node_id": None, "input": None}
        return exit_code(error), 0, [problem], []
    found, missing = [], False
    for problem in validate(graph, registry):
        is_file = is_missing_file(problem, graph)
        where = looked_in(problem, graph, host) if is_file else ""
        found.append({**vars(problem), "message": f"{problem.message}{where}"})
        missing = missing or is_file
    code = MISSING if missing else INVALID
    warnings = [
        {"message": text, "node_id": one} for one, text in workflow_warnings(graph, registry, host)
    ]
    return (code if found else OK), len(graph.nodes), found, warnings


# --------------------------------------------------------------------------------------------------
# Listing.


def list_nodes(args: argparse.Namespace, stop: StopSignals) -> int:
    """Print a table of all nodes, or all about one."""
    configure(args)
    registry = load_registry()
    if args.name is not None:
        spec = find_node(args.name, registry)
        print(json.dumps(node_as_json(spec), indent=2)) if args.json else _print_node(spec)
    elif args.json:
        print(json.dumps([node_as_json(spec) for spec in registry.values()], indent=2))
    else:
        _print_table(registry)
    return OK


def find_node(name: str, registry: Registry) -> NodeSpec:
    """Return the node with an id or display name."""
    for spec in registry.values():
        if name in (spec.id, spec.display_name):
            return spec
    known = [one for spec in registry.values() for one in (spec.id, spec.display_name)]
    near = did_you_mean(name, known)
    raise CommandError(f'there is no node "{shown(name)}" among the {len(registry)} nodes{near}')


def node_as_json(spec: NodeSpec) -> dict[str, Any]:
    """Describe a node as plain data."""
    return {
        "id": spec.id,
        "display_name": spec.display_name,
        "category": spec.category,
        "description": spec.description,
        "is_output_node": spec.is_output_node,
        "inputs": [_input_as_json(one) for one in spec.ordered_inputs()],
        "outputs": [vars(one) for one in spec.outputs],
    }


def _input_as_json(spec: InputSpec) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": spec.name, "type": spec.type, "kind": spec.kind, "required": spec.required,
    }  # fmt: skip
    optional = {"default": spec.initial(), "min": spec.minimum, "max": spec.maximum}
    optional |= {"step": spec.step, "tooltip": spec.tooltip}
    found |= {key: value for key, value in optional.items() if value is not None}
    if spec.is_combo:
        found["choices"] = list(spec.choices())
    if spec.dynamic is not None:
        found["opens"] = {k: [_input_as_json(o) for o in v] for k, v in spec.dynamic.items()}
    return found


def _print_table(registry: Registry) -> None:
    rows = [(one.id, one.display_name, _wires(one)) for one in registry.values()]
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(2)]
    for node_id, name, wires in rows:
        print(f"{node_id:<{widths[0]}}  {name:<{widths[1]}}  {wires}".rstrip())


def _wires(spec: NodeSpec) -> str:
    """The types of inputs, optional ones in brackets, and outputs: "MODEL [CLIP] -> LATENT"."""
    sockets = [one for one in spec.ordered_inputs() if one.kind == "socket"]
    given = [one.type if one.required else f"[{one.type}]" for one in sockets]
    outputs = [one.type for one in spec.outputs] or ["a file" if spec.is_output_node else ""]
    return f"{' '.join(given)} -> {' '.join(outputs)}".strip()


def _print_node(spec: NodeSpec) -> None:
    print(f"{spec.id}: {spec.display_name}  [{spec.category}]")
    if spec.description:
        print(spec.description)
    print("\ninputs")
    for one in spec.ordered_inputs():
        _print_input(one, "  ")
    print("\noutputs")
    for one in spec.outputs:
        print(f"  {one.name} ({one.type})")


def _print_input(spec: InputSpec, indent: str, above: str = "") -> None:
    kind = "COMBO" if spec.dynamic is not None else spec.type
    facts = [kind, "" if spec.required else "optional", _range(spec), _default(spec)]
    print(f"{indent}{above}{spec.name} ({', '.join(filter(None, facts))})")
    if spec.tooltip:
        print(f"{indent}    {spec.tooltip}")
    if spec.is_combo:
        choices = [str(one) for one in spec.choices()]
        more = f" and {len(choices) - SHOWN_CHOICES} more" if len(choices) > SHOWN_CHOICES else ""
        print(f"{indent}    one of: {', '.join(choices[:SHOWN_CHOICES]) or '(nothing)'}{more}")
    for choices, opened in _alike(spec.dynamic or {}):
        print(f"{indent}    with {' or '.join(choices)}:")
        for one in opened:
            _print_input(one, f"{indent}      ", f"{above}{spec.name}.")


def _alike(
    dynamic: Mapping[str, Sequence[InputSpec]],
) -> list[tuple[list[str], Sequence[InputSpec]]]:
    """Group the choices that have the same further inputs; choices without any are left out."""
    groups: dict[str, tuple[list[str], Sequence[InputSpec]]] = {}
    for choice, opened in dynamic.items():
        key = json.dumps([_input_as_json(one) for one in opened], default=str)
        groups.setdefault(key, ([], opened))[0].append(choice)
    return [(choices, opened) for choices, opened in groups.values() if opened]


def _range(spec: InputSpec) -> str:
    low, high = spec.minimum, spec.maximum
    if low is None and high is None:
        return ""
    step = f" in steps of {spec.step:g}" if spec.step not in (None, 1) else ""
    if high is None:
        return f"at least {low}{step}"
    return (f"at most {high}" if low is None else f"{low} to {high}") + step


def _default(spec: InputSpec) -> str:
    value = spec.initial()
    return "" if value is None or spec.kind == "socket" else f"default {json.dumps(value)}"
