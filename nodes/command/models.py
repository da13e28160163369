"""`videoldm models`: the available weights. Only headers are read."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

from ...core.families import included_folders
from ...core.graph.messages import first_line
from ..host.shared.folders import MODEL_FOLDERS
from ..host.standalone.host import StandaloneHost
from .errors import OK
from .registry import configure
from .signals import StopSignals


def list_models(args: argparse.Namespace, stop: StopSignals) -> int:
    """Print the models that come with the pack and the files in the models folders."""
    host = configure(args)
    included = {
        family: [describe_file(path) for path in sorted(folder.glob("*.safetensors"))]
        for family, folder in included_folders().items()
    }
    files = list(_in_folders(host))
    if args.json:
        print(json.dumps({**included, "files": files}, indent=2))
        return OK
    for family, models in included.items():
        total = sum(one["mb"] for one in models)
        print(f"{family} ({len(models)} files, {total:.1f} MB in {included_folders()[family]})")
        for one in models:
            print(f"  {_line(one)}")
    for root in host.folders.models:
        note = "" if root.is_dir() else ", which does not exist"
        print(f"\nmodels folder {root}{note}")
    for one in files:
        print(f"  {one['folder'] + '/' + one['name']:<48} {_facts(one)}")
    return OK


def describe_file(path: Path) -> dict[str, Any]:
    """Return name and size and, for safetensors, kind and parameters; "error" if unreadable."""
    found: dict[str, Any] = {"name": path.stem, "mb": 0.0}
    try:
        found["mb"] = round(_size(path) / 1e6, 2)
        return found | (_contents(path) if path.suffix in (".safetensors", ".sft") else {})
    except (ValueError, OSError) as error:
        return {**found, "error": f"not readable: {first_line(error)}"}


def _size(path: Path) -> int:
    """Bytes of a file, or of all files in a model's folder."""
    inner = path.rglob("*") if path.is_dir() else [path]
    return sum(one.stat().st_size for one in inner if not one.is_dir())


def _contents(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            count = sum(prod(file.get_slice(k).get_shape()) for k in file.keys())
            own = json.loads((file.metadata() or {}).get("videoldm", "{}"))
    except (SafetensorError, ValueError, RecursionError) as error:
        raise ValueError(first_line(error)) from None
    own = own if isinstance(own, dict) else {}
    about = {key: own[key] for key in ("kind", "family", "notes") if own.get(key)}
    return {"parameters": count} | about


def _in_folders(host: StandaloneHost) -> Iterator[dict[str, Any]]:
    for kind in MODEL_FOLDERS:
        for name in host.folders.model_names(kind):
            path = host.folders.model_path(kind, name)
            yield {**describe_file(path), "folder": kind, "name": name, "path": str(path)}


def _line(one: dict[str, Any]) -> str:
    return f"{one['name']:<20} {_facts(one)}"


def _facts(one: dict[str, Any]) -> str:
    if "error" in one:
        return f"{one['mb']:>9.2f} MB  {one['error']}"
    parameters = f"{one['parameters'] / 1e6:>9.2f} M parameters" if "parameters" in one else ""
    return f"{one['mb']:>9.2f} MB  {parameters}  {one.get('kind', '')}".rstrip()
