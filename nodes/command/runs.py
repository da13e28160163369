"""`videoldm runs`: lists the stored chunks of runs, and removes them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from ...core.graph.messages import shown
from ...core.graph.wording import counted
from ...core.tasks.kept_runs import KeptRuns, RunFacts
from ..host.shared.runs_folder import runs_folder, runs_limit
from .errors import MISSING, OK, CommandError
from .signals import StopSignals

DAY = 86400.0
SHOWN = ("frames", "width", "height", "seed", "strategy", "passes", "chunk")
"""Inputs by which a run is recognised."""


def list_runs(args: argparse.Namespace, stop: StopSignals) -> int:
    """Remove the runs that the arguments name from an output folder, and print the others."""
    folder = runs_folder(Path(args.output).expanduser())
    store, limit = KeptRuns(folder), runs_limit()
    _remove(store, args)
    found = store.runs()
    if args.json:
        print(json.dumps({"folder": str(folder), "limit": limit,
                          "runs": [one._asdict() for one in found]}, indent=2))  # fmt: skip
        return OK
    total = sum(one.size for one in found) / 1e9
    print(f"{counted(len(found), 'run')}, {total:.2f} GB of {limit / 1e9:g} GB in {folder}")
    for one in found:
        print(f"  {_line(one)}")
    return OK


def _remove(store: KeptRuns, args: argparse.Namespace) -> None:
    known = {one.key for one in store.runs()}
    for key in args.remove:
        named = sorted(one for one in known if key and one.startswith(key))
        if len(named) != 1:
            what = "no run" if not named else f"{len(named)} runs"
            raise CommandError(f"{what} in {store.folder} begin with {key!r}", MISSING)
        store.remove(named[0])
    if args.older is not None:
        store.remove_older(_positive(args.older, "--older") * DAY)
    if args.keep is not None:
        store.shrink(_positive(args.keep, "--keep") * 1e9)


def _positive(value: float, what: str) -> float:
    if not 0 <= value < float("inf"):
        raise CommandError(f"{what} {value:g} must be 0 or more")
    return value


def _line(run: RunFacts) -> str:
    used = datetime.fromtimestamp(run.used).strftime("%Y-%m-%d %H:%M")
    size = f"{run.size / 1e6:>10.2f} MB in {run.chunks:>5} chunk{'s' if run.chunks != 1 else ' '}"
    return f"{run.key[:12]}  {used}  {size}  {_described(run.about)}".rstrip()


def _described(about: Mapping[str, Any]) -> str:
    inputs = about.get("inputs")
    inputs = inputs if isinstance(inputs, dict) else {}
    told = [f"{name} {shown(str(inputs[name]))}" for name in SHOWN if name in inputs]
    name = shown(str(about.get("title") or about.get("node") or ""))
    return " ".join([name, f"({', '.join(told)})" if told else ""])
