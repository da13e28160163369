"""`videoldm run`: loads, changes, validates and runs workflows, and lists the results."""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from ...core.graph import (
    Executor,
    Graph,
    Interrupted,
    InvalidWorkflow,
    NodeError,
    Problem,
    Registry,
    RunResult,
    apply_overrides,
    apply_seed,
    fill_in_prefixes,
    load_workflow,
    validate,
)
from ..host.file_names import annotated
from ..host.shared.folders import IMAGES, VIDEOS, WEIGHTS
from ..host.standalone.host import StandaloneHost
from ..host.standalone.host import host as standalone
from .errors import FAILED, MISSING, OK, CommandError, exit_code, sentence, show_error
from .memory import peak_memory
from .progress import Bars, JsonLines, Lines, Progress, duration
from .registry import configure, load_registry, require_device, writable
from .signals import StopSignals
from .variations import variations

LISTED_IMAGES = 16
"""Most images in a folder that are listed one by one."""


@dataclass
class Outcome:
    """The results of a run, complete or not."""

    files: list[Path] = field(default_factory=list)
    unfinished: list[Path] = field(default_factory=list)
    texts: dict[str, list[str]] = field(default_factory=dict)
    executed: list[str] = field(default_factory=list)
    cached: list[str] = field(default_factory=list)
    blocked: dict[str, str] = field(default_factory=dict)
    warnings: dict[str, list[str]] = field(default_factory=dict)
    seconds: float = 0.0
    memory: dict[str, float] = field(default_factory=dict)
    code: int = OK
    error: BaseException | None = None

    def add(self, result: RunResult, host: StandaloneHost) -> None:
        """Add the results of one workflow."""
        for node_id, shown in result.ui.items():
            items = [one for values in shown.values() for one in _listed(values)]
            found = [_saved(one, host) for one in items if _is_file(one)]
            self.files += [path for path in found if path not in self.files]
            if shown.get("text"):
                self.texts[node_id] = [str(one) for one in _listed(shown["text"])]
        self.executed += result.executed
        self.cached += result.cached
        self.blocked |= result.blocked
        self.warnings |= {node_id: texts for node_id, texts in result.warnings.items() if texts}

    def fail(self, error: BaseException, code: int) -> None:
        self.error, self.code = error, code

    def as_json(self) -> dict[str, Any]:
        plain = {key: value for key, value in vars(self).items() if key not in ("error", "memory")}
        plain["files"] = [str(path.absolute()) for path in self.files]
        plain["unfinished"] = [str(path.absolute()) for path in self.unfinished]
        plain["seconds"] = round(self.seconds, 3)
        return {"event": "result", **plain, **self.memory, "error": _as_json(self.error)}


def run(args: argparse.Namespace, stop: StopSignals) -> int:
    """Run the workflows one after the other; later ones reuse the outputs of unchanged nodes."""
    out, begun = sys.stdout, time.time()
    outcome = Outcome()
    progress = _progress(args, out)
    # stdout is for the results, but some libraries print to it.
    with redirect_stdout(sys.stderr), _quiet_warnings():
        try:
            _run_all(args, stop, progress, outcome)
        except (Interrupted, KeyboardInterrupt) as error:
            outcome.fail(error, stop.code)
        except Exception as error:
            outcome.fail(error, exit_code(error))
        outcome.seconds, outcome.memory = time.time() - begun, peak_memory()
        outcome.unfinished = kept_by(standalone)
    _finish(args, outcome, progress, out)
    return outcome.code


def _run_all(args: argparse.Namespace, stop: StopSignals, progress: Progress, outcome: Outcome
             ) -> None:  # fmt: skip
    host = configure(args)
    registry = load_registry()
    graphs = [
        _prepared(file, [*args.settings, *own], args.seed, registry, host)
        for file in args.files
        for own in variations(args.each)
    ]
    require_device(host)
    writable(host.folders.output)
    executor = Executor(registry, cache=len(graphs) > 1 or args.ray is not None)
    with _workers(args, host, executor, graphs) as begin_after:
        for number, graph in enumerate(graphs):
            begin_after(number)
            _run_one(args, executor, graph, stop, progress, outcome)
    for node_id, message in list(outcome.blocked.items())[:1]:
        raise CommandError(f"node {node_id}: {message}", FAILED)


def _run_one(args: argparse.Namespace, executor: Executor, graph: Graph, stop: StopSignals,
             progress: Progress, outcome: Outcome) -> None:  # fmt: skip
    progress.begin(graph, executor.registry)
    try:
        with stop.gently():
            result = executor.run(graph, on_event=progress, interrupted=stop)
        outcome.add(result, standalone)
    except (NodeError, Interrupted) as error:
        outcome.add(error.result or RunResult(), standalone)
        raise
    finally:
        progress.end()
        if args.contact_sheet:
            _add_sheets(outcome)


@contextmanager
def _workers(
    args: argparse.Namespace, host: StandaloneHost, executor: Executor, graphs: list[Graph]
) -> Iterator[Callable[[int], None]]:
    """Let a cluster's workers make chunks, if --ray is given; yields a function of a workflow's
    number that begins those after it ahead of time."""
    if args.ray is None:
        yield lambda number: None
        return
    from ..host.distributed.cluster import joined
    from ..host.distributed.prefetch import Prefetch

    with ExitStack() as stack:
        try:
            pool = stack.enter_context(joined(host, args.ray, args.workers))
        except ValueError as error:
            raise CommandError(str(error)) from error
        yield Prefetch(pool, executor, graphs).begin_after


# --------------------------------------------------------------------------------------------------
# Before the run.


def _prepared(file: str, settings: list[str], seed: int | None, registry: Registry,
              host: StandaloneHost) -> Graph:  # fmt: skip
    """Load a workflow, apply the settings, and raise an error if it is not valid."""
    graph = load_workflow(file, registry)
    graph = apply_overrides(graph, settings, registry, files=host.folders.named_by_user)
    graph = graph if seed is None else apply_seed(graph, seed, registry)
    graph = fill_in_prefixes(graph, registry)
    problems = validate(graph, registry)
    for problem in problems[:1]:
        if is_missing_file(problem, graph):
            raise CommandError(f"{problem.message}{looked_in(problem, graph, host)}", MISSING)
        raise InvalidWorkflow(problems)
    return graph


def is_missing_file(problem: Problem, graph: Graph) -> bool:
    """Whether the problem is a file name that is not among the choices."""
    if problem.code != "bad_value" or problem.node_id is None:
        return False
    value = graph.nodes[problem.node_id].inputs.get(problem.input)
    name = annotated(value)[0] if isinstance(value, str) else ""
    return name.lower().endswith((*IMAGES, *VIDEOS, *WEIGHTS))


def looked_in(problem: Problem, graph: Graph, host: StandaloneHost) -> str:
    """The end of the message about a missing file: where it was looked for."""
    name, what = annotated(graph.nodes[problem.node_id].inputs[problem.input])
    weights = name.lower().endswith(WEIGHTS)
    folders = host.folders.models if weights else [getattr(host.folders, what)]
    what = "models" if weights else what
    return f", looked for in the {what} folder {', '.join(map(str, folders))}"


# --------------------------------------------------------------------------------------------------
# After the run.


def _listed(values: Any) -> list[Any]:
    return list(values) if isinstance(values, (list, tuple)) else [values]


def _is_file(item: Any) -> bool:
    return isinstance(item, Mapping) and "filename" in item


def _saved(item: Mapping[str, Any], host: StandaloneHost) -> Path:
    roots = {"temp": host.folders.temp, "input": host.folders.input}
    root = roots.get(item.get("type", "output"), host.folders.output)
    return root / item.get("subfolder", "") / item["filename"]


def kept_by(host: StandaloneHost) -> list[Path]:
    """Take the files that an interrupted run left: videos of the frames so far, or latents."""
    kept, host.unfinished = host.unfinished, []
    return [path for path in kept if path.exists()]


def _add_sheets(outcome: Outcome) -> None:
    from ...core.media.contact_sheet import sheet_from_video
    from ...core.media.new_files import NewFile

    for path in list(outcome.files):
        sheet = path.with_name(f"{path.stem.rstrip('_')}_sheet.png")
        if path.suffix.lower() in VIDEOS and sheet not in outcome.files and path.is_file():
            file = NewFile.at(sheet)
            with file.writing() as partial:
                sheet_from_video(path, rows=2).save(partial)
            outcome.files.append(file.path)


def _as_json(error: BaseException | None) -> dict[str, Any] | None:
    if error is None:
        return None
    found: dict[str, Any] = {"message": sentence(error), "node_id": getattr(error, "node_id", None)}
    problems = getattr(error, "problems", ())
    listed = [{**vars(one)} for one in problems]
    return {**found, "problems": listed} if listed else found


# --------------------------------------------------------------------------------------------------
# Showing.


def _progress(args: argparse.Namespace, out: TextIO) -> Progress:
    if args.json:
        return JsonLines(out)
    if args.quiet:
        return Progress()
    return Bars(sys.stderr) if sys.stderr.isatty() else Lines(sys.stderr)


def _finish(args: argparse.Namespace, outcome: Outcome, progress: Progress, out: TextIO) -> None:
    if isinstance(progress, JsonLines):
        progress.write(outcome.as_json())
    else:
        for path in folded(outcome.files):
            print(path if args.quiet else f"saved {path} ({_size(path)})", file=out)
        for path in outcome.unfinished:
            print(path if args.quiet else f"kept unfinished {path} ({_size(path)})", file=out)
        for node_id, texts in ({} if args.quiet else outcome.texts).items():
            print(f"node {node_id}: {' '.join(texts)}", file=out)
    if outcome.error is not None:
        show_error(outcome.error)
    elif not (args.quiet or args.json):
        memory = ", ".join(f"{k.removesuffix('_mb').replace('_', ' ')} {v:,.0f} MB"
                           for k, v in outcome.memory.items())  # fmt: skip
        print(f"{duration(outcome.seconds)}, {memory}", file=out)


def folded(files: list[Path]) -> list[Path]:
    """The files, with a folder in place of its images if it has many."""
    together = Counter(path.parent for path in files if path.suffix.lower() in IMAGES)
    many = {folder for folder, count in together.items() if count > LISTED_IMAGES}
    inside = (p.parent if p.parent in many and p.suffix.lower() in IMAGES else p for p in files)
    return list(dict.fromkeys(inside))


def _size(path: Path) -> str:
    if path.is_dir():
        return f"{sum(1 for _ in path.iterdir())} files"
    try:
        return f"{path.stat().st_size / 1e6:,.2f} MB"
    except OSError:
        return "deleted"


@contextmanager
def _quiet_warnings() -> Iterator[None]:
    """Hide Python's warnings unless VIDEOLDM_DEBUG is set."""
    with warnings.catch_warnings():
        if os.environ.get("VIDEOLDM_DEBUG", "0") in ("", "0"):
            warnings.simplefilter("ignore")
        yield
