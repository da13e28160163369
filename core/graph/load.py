"""Loads a workflow from any file that contains one, as a graph that can be validated and run."""

from __future__ import annotations

import random
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .api_format import graph_from_api, unwrap_api
from .json_text import LONGEST_TEXT, read_json
from .media import media_kind, read_media
from .messages import first_line, kind_of, shown, shown_path
from .schema import Graph, Link, Node, Registry, WorkflowError
from .ui_format import convert, is_ui
from .values import current_choice


def load_workflow(path: str | Path, registry: Registry, rng: random.Random | None = None) -> Graph:
    """Read a workflow from JSON (UI or API format), PNG, WebP, JPEG, GIF, MP4, MOV or WebM.

    The format is detected from the content, not from the extension. Media usually contain both
    formats. As in ComfyUI, the "workflow" (UI), which the user saw, is preferred. The "prompt"
    (API), which actually ran, is used if the conversion of the UI format fails or yields nodes that
    the registry lacks while the prompt has only known ones. `rng` picks from {a|b} in dynamic
    prompts. Raises WorkflowError with one sentence.
    """
    path = Path(path)
    data = read_data(path)
    return parse_workflow(data, registry, source=str(path), rng=rng)


def read_data(path: Path) -> Any:
    """Read the JSON in a file: the whole file, or {"workflow", "prompt"} from a media file."""
    name = shown_path(path)
    try:
        kind, content = _read_file(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise WorkflowError(f"workflow file {name} cannot be read ({reason.lower()})") from error
    if kind is None:
        return _read_json(content, name)
    found = read_media(path, kind)
    if not found:
        raise WorkflowError(f'{name} carries no workflow, expected "workflow" or "prompt" metadata')
    return found


def _read_file(path: Path) -> tuple[str | None, bytes]:
    """Return the kind of a media file and no content, or None and the content of other files."""
    mode = path.stat().st_mode
    # Opening a pipe blocks until somebody writes to it, and a device may never end.
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError("it is a pipe or a device, not a file")
    with path.open("rb") as file:
        head = file.read(16)
        kind = media_kind(head)
        return kind, b"" if kind else head + file.read(LONGEST_TEXT)


def _read_json(content: bytes, name: str) -> Any:
    if not content.strip():
        raise WorkflowError(f"workflow file {name} is empty ({len(content)} bytes)")
    if len(content) > LONGEST_TEXT:
        raise WorkflowError(f"workflow file {name} is too large, at most {LONGEST_TEXT:,} bytes of "
                            "JSON are read")  # fmt: skip
    try:
        return read_json(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise WorkflowError(f"{name} is neither JSON nor a PNG, WebP, JPEG, GIF, MP4, MOV or WebM "
                            f"file (byte {error.start} is not text)") from error  # fmt: skip
    except ValueError as error:
        raise WorkflowError(f"{name} is not valid JSON: {first_line(error)}") from error


def parse_workflow(
    data: Any, registry: Registry, *, source: str = "", rng: random.Random | None = None
) -> Graph:
    """Turn loaded JSON into a graph; see `load_workflow` for which format is preferred."""
    ui, api = _forms(data)
    name = shown_path(source or "") or "the workflow"
    if ui is None and api is None:
        raise WorkflowError(f'{name} is not a workflow, expected "nodes" (UI form) or nodes with '
                            f'"class_type" (API form), given {_outline(data)}')  # fmt: skip
    graph = _choose(ui, api, registry, source, rng)
    if not graph.nodes:
        raise WorkflowError(f"{name} has 0 nodes that run{graph.left_out()}")
    nodes = {node.id: _with_current_choices(node, registry) for node in graph.nodes.values()}
    return replace(graph, nodes=nodes)


def _with_current_choices(node: Node, registry: Registry) -> Node:
    """Return the node with outdated spellings of combo choices replaced by the current ones."""
    spec = registry.get(node.class_type)
    live = spec.live_inputs(node.inputs) if spec else {}
    changed = {
        name: current_choice(node.inputs[name], one)
        for name, one in live.items()
        if one.is_combo and name in node.inputs and not isinstance(node.inputs[name], Link)
    }
    return replace(node, inputs={**node.inputs, **changed}) if changed else node


def _choose(
    ui: dict | None, api: dict | None, registry: Registry, source: str, rng: random.Random | None
) -> Graph:
    if ui is None:
        return graph_from_api(api, source=source)
    if api is None:
        return _from_ui(ui, registry, source, rng)
    prompt = graph_from_api(api, workflow=ui, source=source)
    try:
        graph = _from_ui(ui, registry, source, rng)
    except WorkflowError:
        return prompt
    return prompt if _unknown(graph, registry) and not _unknown(prompt, registry) else graph


def _from_ui(ui: dict, registry: Registry, source: str, rng: random.Random | None) -> Graph:
    converted = convert(ui, registry, rng)
    return graph_from_api(converted.api, workflow=ui, source=source, dropped=converted.dropped)


def _unknown(graph: Graph, registry: Registry) -> bool:
    return any(node.class_type not in registry for node in graph.nodes.values())


def _forms(data: Any) -> tuple[dict | None, dict | None]:
    """Return the UI and the API format in loaded JSON, bare or under "workflow" and "prompt"."""
    if is_ui(data):
        return data, None
    if not isinstance(data, Mapping):
        return None, None
    inner = data.get("workflow")
    return (inner if is_ui(inner) else None), unwrap_api(data)


def _outline(data: Any) -> str:
    if isinstance(data, dict):
        keys = ", ".join(f"'{shown(key)}'" for key in list(data)[:5])
        return f"an object with {keys or 'no keys'}"
    return kind_of(data)
