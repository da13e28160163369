"""Any file that carries a workflow, to a graph that can be validated and run."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .api_format import graph_from_api, unwrap_api
from .media import media_kind, read_media
from .schema import Graph, Registry, WorkflowError
from .ui_format import convert, is_ui


def load_workflow(path: str | Path, registry: Registry, rng: random.Random | None = None) -> Graph:
    """Read a workflow from JSON (UI or API form), PNG, WebP, JPEG, MP4, MOV or WebM.

    The content decides, not the extension. Media usually carry both forms: the "workflow" (UI) is
    what the user saw and wins, as in ComfyUI, unless converting it needs nodes that the registry
    does not have (or fails) while the "prompt" (API), what really ran, does with known ones.
    `rng` picks from {a|b} in dynamic prompts. Raises WorkflowError with one sentence.
    """
    path = Path(path)
    data = read_data(path)
    return parse_workflow(data, registry, source=str(path), rng=rng)


def read_data(path: Path) -> Any:
    """Read the JSON objects in a file: the bare JSON, or {"workflow", "prompt"} from media."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
            kind = media_kind(head)
            content = b"" if kind else head + file.read()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise WorkflowError(f"workflow file {path} cannot be read ({reason.lower()})") from error
    if kind is None:
        return _read_json(content, path)
    found = read_media(path, kind)
    if not found:
        raise WorkflowError(f'{path} carries no workflow, expected "workflow" or "prompt" metadata')
    return found


def _read_json(content: bytes, path: Path) -> Any:
    if not content.strip():
        raise WorkflowError(f"workflow file {path} is empty ({len(content)} bytes)")
    try:
        return json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise WorkflowError(f"{path} is neither JSON nor a PNG, WebP, JPEG, MP4, MOV or WebM file "
                            f"(byte {error.start} is no text)") from error  # fmt: skip
    except json.JSONDecodeError as error:
        raise WorkflowError(f"{path} is not valid JSON: {error.msg} at line {error.lineno} column "
                            f"{error.colno}") from error  # fmt: skip
    except RecursionError as error:
        raise WorkflowError(f"{path} is not valid JSON: it is nested too deeply") from error


def parse_workflow(
    data: Any, registry: Registry, *, source: str = "", rng: random.Random | None = None
) -> Graph:
    """Turn loaded JSON into a graph; see `load_workflow` for which form wins."""
    ui, api = _forms(data)
    name = source or "the workflow"
    if ui is None and api is None:
        raise WorkflowError(f'{name} is no workflow, expected "nodes" (UI form) or nodes with '
                            f'"class_type" (API form), given {_outline(data)}')  # fmt: skip
    graph = _choose(ui, api, registry, source, rng)
    if not graph.nodes:
        left = f" (left out as frontend-only: {', '.join(graph.dropped)})" if graph.dropped else ""
        raise WorkflowError(f"{name} has 0 nodes that run{left}")
    return graph


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
    """Find the UI and the API form in loaded JSON, bare or under "workflow" and "prompt"."""
    if is_ui(data):
        return data, None
    if not isinstance(data, Mapping):
        return None, None
    inner = data.get("workflow")
    return (inner if is_ui(inner) else None), unwrap_api(data)


def _outline(data: Any) -> str:
    if isinstance(data, dict):
        return f"an object with {', '.join(map(repr, list(data)[:5])) or 'no keys'}"
    return f"a {type(data).__name__}"
