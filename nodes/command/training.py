"""`videoldm train` and `videoldm evaluate`: train the pack's own models, and measure them."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from ...core.evaluation import MODULES, WITH_FOLDER, WITH_PROGRESS
from ...core.families import included_folders, own_weights_in
from ..host.shared.runs_folder import FOLDER
from .errors import INVALID, MISSING, OK, CommandError
from .registry import writable
from .signals import StopSignals

FAMILY = "family"
"""Instead of a recipe's name: all parts of the pack's own models."""


def train_recipe(args: argparse.Namespace, stop: StopSignals) -> int:
    """Train to the end of the recipe, resuming from the last state in the output folder."""
    if args.recipe == FAMILY:
        return train_whole_family(args)
    from ...core.training.recipe import load_recipe

    try:
        recipe = load_recipe(args.recipe, args.set)
    except (ValueError, TypeError) as error:
        code = MISSING if str(error).startswith("no recipe") else INVALID
        raise CommandError(f"{args.recipe}: {error}", code) from error
    output = writable(Path(args.output).expanduser())
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
        _say(f"{recipe.name}: stopped; the same command resumes from the last state in {folder}")
        raise
    if args.install:
        (folder,) = included_folders().values()
        path = install(path, folder)
    print(path)
    return OK


def train_whole_family(args: argparse.Namespace) -> int:
    """Train all parts of the pack's own models within --minutes."""
    output = Path(args.output).expanduser()
    output = writable(output / FAMILY if args.output == "training" else output)
    import torch

    from ...core.training.family.run import RunSettings, train_family

    torch.set_num_threads(max(1, args.threads))
    workers = {} if args.workers is None else {"workers": args.workers}
    start = None if args.start is None else Path(args.start).expanduser()
    try:
        settings = RunSettings(
            minutes=args.minutes, output=output, device=_device(args.device), scale=args.scale,
            size=args.size, resume=args.resume, start=start, only=tuple(args.only),
            changes=tuple(args.set), **workers,
        )  # fmt: skip
        print(train_family(settings, _say))
    except ValueError as error:
        raise CommandError(str(error)) from error
    except KeyboardInterrupt:
        _say(f"family: stopped; --resume continues from the last states in {output}")
        raise
    return OK


def install(path: Path, folder: Path) -> Path:
    """Copy a result into a folder, atomically."""
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
    """Measure the models that come with the pack and print a table, or draw samples from them."""
    with included_weights(args.weights):
        return _evaluated(args)


@contextmanager
def included_weights(folder: str | None) -> Iterator[None]:
    """Within this context, use the models in a folder, if any, as the pack's own."""
    if folder is None:
        yield
        return
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise CommandError(f"there is no folder {folder}", MISSING)
    with own_weights_in(path):
        yield


def _evaluated(args: argparse.Namespace) -> int:
    device = _device(args.device)
    if args.what == "samples":
        return _draw_samples(args, device)
    if args.what == "drift":
        return _measure_drift(args, device)
    if args.what in MODULES:
        return _measure(args)
    from ...core.evaluation.figures import as_json, table
    from ...core.evaluation.included import GROUPS, evaluate

    for name in args.only or ():
        if name not in GROUPS:
            raise CommandError(f'there is no figure "{name}", expected one of {", ".join(GROUPS)}')
    figures = evaluate(_say, only=args.only, device=device)
    if args.json:
        print(as_json(figures))
    else:
        from rich.console import Console

        Console().print(table(figures))
    return OK


def _measure(args: argparse.Namespace) -> int:
    """Print the report of one evaluation program, or its figures as JSON."""
    if args.only:
        raise CommandError(f"--only is for figures of the pack's own models, not for {args.what}")
    report = import_module(f"...core.evaluation.{MODULES[args.what]}", __package__).report
    given: tuple = (_say,) if args.what in WITH_PROGRESS else ()
    if args.what in WITH_FOLDER:
        given = writable(Path(args.output)), _say
    found, text = report(*given)
    print(json.dumps(found) if args.json else text)
    return OK


def _measure_drift(args: argparse.Namespace, device: Any) -> int:
    """Print the drift table, or its numbers as JSON, and draw the plot."""
    from ...core.evaluation import drift, drift_plot
    from ...core.evaluation.models import Models

    if args.frames < drift.PARTS * drift.BLOCK:
        raise CommandError(
            f"--frames {args.frames} must be at least {drift.PARTS * drift.BLOCK}, so that there "
            "are stretches to compare"
        )
    for name in args.only or ():
        if name not in drift.STRATEGIES:
            known = ", ".join(f'"{one}"' for one in drift.STRATEGIES)
            raise CommandError(f'there is no strategy "{name}", expected one of {known}')
    folder = writable(Path(args.output))
    store = drift.chunk_store(folder / FOLDER, _say)
    made = drift.courses(Models(device), store, args.frames, only=args.only or (), say=_say)
    found = {}
    for name, course in made:
        found[name] = course
        path = drift_plot.write_plot(folder / "drift.svg", found, args.frames)
        if not args.json:
            _say(drift_plot.table(found, args.frames).splitlines()[-1])
    print(json.dumps(drift.as_json(found)) if args.json else drift_plot.table(found, args.frames))
    _say(str(path))
    return OK


def _draw_samples(args: argparse.Namespace, device: Any) -> int:
    from ...core.evaluation.samples import SHEETS, write_samples

    for name in args.only or ():
        if name not in SHEETS:
            raise CommandError(f'there is no sheet "{name}", expected one of {", ".join(SHEETS)}')
    for path in write_samples(writable(Path(args.output)), _say, only=args.only, device=device):
        print(path)
    return OK
