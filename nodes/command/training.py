"""`videoldm train` and `videoldm evaluate`: making the embedded models, and measuring them."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from .errors import OK, CommandError
from .models import EMBEDDED
from .registry import writable
from .signals import StopSignals


def train_recipe(args: argparse.Namespace, stop: StopSignals) -> int:
    """Train to the end of the recipe, going on from the last state in the output folder."""
    output = writable(Path(args.output).expanduser())
    from ...core.training.recipe import load_recipe

    try:
        recipe = load_recipe(args.recipe)
    except (ValueError, TypeError) as error:
        code = {"code": 3} if str(error).startswith("no recipe") else {}
        raise CommandError(f"{args.recipe}: {error}", **code) from error
    import torch

    from ...core.training.tasks import build_task
    from ...core.training.trainer import train

    device = _device(args.device)
    torch.set_num_threads(max(1, args.threads))
    folder = output / recipe.name
    task = build_task(recipe, output / "cache")
    try:
        path = train(recipe, task, folder, device=device, report=_say)
    except KeyboardInterrupt:
        _say(f"{recipe.name}: stopped; the same command goes on from the last state in {folder}")
        raise
    if args.install:
        path = install(path, EMBEDDED)
    print(path)
    return OK


def install(path: Path, folder: Path) -> Path:
    """Copy a result into the embedded models, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / path.name
    temporary = target.with_name(f"{path.name}.tmp")
    shutil.copyfile(path, temporary)
    os.replace(temporary, target)
    return target


def _device(name: str) -> Any:
    """The torch device of "--device"; "auto" is a GPU if there is one."""
    from ..host.standalone.devices import Policy

    try:
        return Policy(name).device
    except (ValueError, RuntimeError) as error:
        raise CommandError(str(error).splitlines()[0]) from error


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def evaluate_models(args: argparse.Namespace, stop: StopSignals) -> int:
    """Measure the embedded models and print a table of figures."""
    from ...core.evaluation.embedded import evaluate

    rows = [as_mapping(row) for row in evaluate(_say, only=args.only)]
    print(json.dumps(rows, indent=2)) if args.json else _print_rows(rows)
    return OK


def as_mapping(row: Any) -> dict[str, Any]:
    """A row of the evaluation as a mapping, whatever sort of record it is."""
    if isinstance(row, Mapping):
        return dict(row)
    return asdict(row) if is_dataclass(row) else dict(row._asdict())


def _print_rows(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*(rows[0] if rows else ("nothing was measured",)), box=None)
    for row in rows:
        table.add_row(*(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()))
    Console().print(table)
