"""`videoldm plan`: draws the noise level of each frame after every step of a strategy."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.graph import Registry, load_workflow
from ...core.graph.messages import shown_path
from ...core.graph.schema import describe
from ...core.graph.wording import counted
from ..choices import USUAL_STEPS
from ..stages.strategy import Strategy, read_strategy
from .errors import OK, CommandError
from .registry import load_registry
from .signals import StopSignals

if TYPE_CHECKING:
    from ...core.tasks.noise_plan import NoisePlan

SAMPLER = "VideoLDM_VideoSampler"
SHADES = " .:-=+*#%@"
"""From no noise to pure noise."""
ROWS, COLUMNS = 40, 96
"""At most printed."""


def draw_plans(args: argparse.Namespace, stop: StopSignals) -> int:
    """Print the plan of the strategy in the arguments, or of each Video Sampler in a workflow, and
    draw it to a file with --output."""
    from ..stages.planning import figures

    found = list(_of_file(args.file) if args.file else _of_arguments(args))
    if args.output and len(found) > 1:
        raise CommandError(f"{args.output} is for one plan, but there are {len(found)}")
    for title, plan in found:
        plan.check()
        if args.json:
            told = {"title": title, **figures(plan), "levels": plan.levels.tolist()}
            print(json.dumps(told))
        else:
            print(f"{title}: {_summary(plan)}")
            print("\n".join(_text(plan)))
        if args.output:
            _write(plan, Path(args.output))
    return OK


def _of_arguments(args: argparse.Namespace) -> Iterator[tuple[str, NoisePlan]]:
    names = ("window", "overlap", "window_schedule", "context_frames", "passes", "lookahead")
    own = Strategy(name=args.strategy, **{name: getattr(args, name) for name in names})
    yield args.strategy, _plan(own, args.frames, args.schedule, args.steps)


def _of_file(file: str) -> Iterator[tuple[str, NoisePlan]]:
    registry = load_registry()
    graph = load_workflow(file, registry)
    nodes = [node for node in graph.nodes.values() if node.class_type == SAMPLER]
    if not nodes:
        raise CommandError(f"{shown_path(file)} has no Video Sampler whose strategy could be drawn")
    for node in nodes:
        given = {**_defaults(registry), **node.inputs}
        own = _strategy(given)
        wired = [name for name in ("frames", "steps", "schedule") if not _is_plain(given[name])]
        if wired:
            raise CommandError(f"{describe(node)}: {wired[0]} comes from another node")
        steps = given["steps"] or USUAL_STEPS  # 0: the model's own, but it is not loaded
        yield describe(node), _plan(own, given["frames"], given["schedule"], steps)


def _defaults(registry: Registry) -> dict[str, Any]:
    return {one.name: one.default for one in registry[SAMPLER].inputs}


def _strategy(given: Mapping[str, Any]) -> Strategy:
    """The strategy with the settings that are widget values in a workflow."""
    known = {name for name in Strategy.__dataclass_fields__ if name not in ("name", "sparse")}
    chosen: dict[str, Any] = {"strategy": given["strategy"]}
    for name, value in given.items():
        last = name.split(".")[-1]
        if name.startswith("strategy.") and last in known and _is_plain(value):
            chosen[last] = value
    if chosen["strategy"] == "sparse first":
        return Strategy(name="sparse first")
    windows = chosen.pop("windows", None)
    return read_strategy(chosen if windows is None else chosen | {"windows": {"windows": windows}})


def _is_plain(value: Any) -> bool:
    return isinstance(value, (str, int, float))


def _plan(own: Strategy, frames: int, schedule: str, steps: int) -> NoisePlan:
    from ..stages.planning import plan_of, usual_sigmas

    return plan_of(own, frames, usual_sigmas(schedule, steps, own.denoise))


# --------------------------------------------------------------------------------------------------
# Drawing.


def _summary(plan: NoisePlan) -> str:
    each = plan.evaluations / plan.frames
    return (
        f"{counted(plan.frames, 'frame')} in {counted(len(plan.calls), 'row')}, at most "
        f"{plan.together} together, {each:.1f} evaluations per frame"
    )


def _text(plan: NoisePlan) -> list[str]:
    """A line per row and a character per frame, or per n-th if there are too many."""
    left = 1 - plan.taken.double() / (len(plan.sigmas) - 1)
    rows, columns = -(-len(left) // ROWS), -(-plan.frames // COLUMNS)
    shades = (left[::rows, ::columns] * (len(SHADES) - 1)).ceil().long().tolist()
    return ["".join(SHADES[shade] for shade in line) for line in shades]


def _write(plan: NoisePlan, path: Path) -> None:
    from ..stages.planning import drawn

    try:
        drawn(plan).save(path)
    except (OSError, ValueError) as error:
        raise CommandError(f"the picture {path} cannot be written ({error})") from None
