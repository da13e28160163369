"""Training the family from start to finish within a time budget."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import torch

from ...families.embedded import included
from .clips import render_clips
from .course import Course, matmul_rate
from .curves import write_curves
from .latent_tasks import ImageModel, VideoLayers
from .material import Material
from .pixel_tasks import Autoencoder, TemporalDecoder, Upsampler
from .plan import Part, Plan, load_plan

TASKS = {
    "autoencoder": Autoencoder,
    "image_model": ImageModel,
    "temporal_decoder": TemporalDecoder,
    "video": VideoLayers,
    "upsampler": Upsampler,
}
RESERVE, MOST_RESERVE = 0.02, 12.0
"""Time kept for the final files: a share of the budget, and at most this many seconds."""
SAVE_SECONDS, SAVE_SHARE = 60.0, 0.05
"""Interval of states: the smaller of these seconds and this share of the budget."""

Report = Callable[[str], Any]


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Settings of a run.

    minutes: wall clock on a GPU; on a CPU, which may be shared, processor time per thread. scale,
    size, changes: see `load_plan`. resume: resume the run in the output folder with its own
    settings; if it is finished, continue its weights for these minutes. start: a folder of initial
    weights. only: names of parts, all by default.
    """

    minutes: float
    output: Path
    device: torch.device
    scale: float = 1.0
    size: int = 64
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    resume: bool = False
    start: Path | None = None
    only: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.minutes <= 0 or self.scale <= 0:
            raise ValueError(
                f"minutes {self.minutes} and scale {self.scale} must be greater than 0"
            )


class Clock:
    """Seconds since its creation, in the time of `RunSettings.minutes`."""

    def __init__(self, device: torch.device):
        self.on_cpu = device.type == "cpu"
        self.started = self._now()

    def _now(self) -> float:
        if not self.on_cpu:
            return time.perf_counter()
        used = os.times()
        mine, workers = used.user + used.system, used.children_user + used.children_system
        return (mine + workers) / torch.get_num_threads()

    def seconds(self) -> float:
        return self._now() - self.started


def train_family(settings: RunSettings, report: Report = print) -> Path:
    """Train the parts of the plan, each within its interval of the time; returns the folder of
    weights. Raises ValueError, before training, for settings that cannot work."""
    folders = Folders(settings.output)
    progress = open_run(folders, settings)
    plan = _plan_of(settings, progress.asked).of(progress.parts)
    if settings.device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
    with included.weights_in(folders.weights):
        clock = Clock(settings.device)
        for one in plan.clips:
            render_clips(one, folders.clips, settings.workers, report)
        rate = matmul_rate(settings.device)
        report(f"clips ready after {clock.seconds():.0f} s; {rate / 1e12:.2f} TFLOP/s at most")
        material = Material(plan, folders.clips, settings.device)
        seconds = progress.minutes * 60
        budget = seconds - min(MOST_RESERVE, RESERVE * seconds)
        if not progress.trained:
            progress.set_up = clock.seconds()
        training = _Training(settings, plan, folders, progress, material, report)
        training.run(Clock(settings.device), max(1.0, budget - progress.set_up), rate)
    return folders.weights


def _plan_of(settings: RunSettings, asked: PlanSettings) -> Plan:
    on_cpu = settings.device.type == "cpu"
    return load_plan(asked["changes"], scale=asked["scale"], size=asked["size"], on_cpu=on_cpu)


class PlanSettings(TypedDict):
    """The settings that a resumed run keeps, stored in progress.json."""

    scale: float
    size: int
    changes: list[str]


@dataclass(frozen=True)
class Folders:
    """The paths in the output folder."""

    output: Path

    def __getattr__(self, name: str) -> Path:
        if name in ("weights", "clips", "states", "logs"):
            return self.output / name
        raise AttributeError(name)

    @property
    def progress(self) -> Path:
        return self.output / "progress.json"


@dataclass(kw_only=True)
class Progress:
    """The progress of a run, stored in progress.json.

    minutes: its budget. parts: those it trains. set_up, trained: seconds before training, and of
    training so far. finished: parts. rounds: finished runs that it continues.
    """

    minutes: float
    parts: list[str]
    asked: PlanSettings
    set_up: float = 0.0
    trained: float = 0.0
    finished: list[str] = field(default_factory=list)
    rounds: int = 0

    @property
    def unfinished(self) -> list[str]:
        return [name for name in self.parts if name not in self.finished]

    def save(self, folders: Folders) -> None:
        text = json.dumps(vars(self), indent=1)
        folders.progress.with_suffix(".tmp").write_text(text)
        os.replace(folders.progress.with_suffix(".tmp"), folders.progress)


def open_run(folders: Folders, settings: RunSettings) -> Progress:
    """The progress of the unfinished run in a folder, of a continuation of a finished one, or of a
    new run."""
    if not folders.progress.is_file():
        return _new(folders, settings)
    if not settings.resume:
        raise ValueError(
            f"there is already a run in {folders.output}: resume it (--resume), or choose another "
            "folder (--output)"
        )
    found = Progress(**json.loads(folders.progress.read_text()))
    if found.unfinished:
        return found
    plan = _plan_of(settings, found.asked)
    chosen = plan.of(settings.only or [one.name for one in plan.parts if not one.once])
    for one in chosen.parts:
        folders.states.joinpath(f"{one.name}.pt").unlink(missing_ok=True)
    _check_needs(folders, chosen, plan)
    names = [one.name for one in chosen.parts]
    return Progress(
        minutes=settings.minutes, parts=names, asked=found.asked, rounds=found.rounds + 1
    )


def _new(folders: Folders, settings: RunSettings) -> Progress:
    asked = PlanSettings(scale=settings.scale, size=settings.size, changes=list(settings.changes))
    whole = _plan_of(settings, asked)
    plan = whole.of(settings.only) if settings.only else whole
    folders.weights.mkdir(parents=True, exist_ok=True)
    names = [one.name for one in plan.parts]
    if settings.start is not None:
        _copy_weights(settings.start, folders.weights)
        there = [one.name for one in plan.parts if one.once and _path(folders, one).is_file()]
        names = [name for name in names if name not in there]
    plan = plan.of(names)
    _check_needs(folders, plan, whole)
    return Progress(minutes=settings.minutes, parts=names, asked=asked)


def _check_needs(folders: Folders, plan: Plan, whole: Plan) -> None:
    """Raise ValueError if a part needs one that is neither trained nor in the folder."""
    chosen = {one.name for one in plan.parts}
    for one in plan.parts:
        for need in one.needs:
            if need not in chosen and not _path(folders, whole.part(need)).is_file():
                raise ValueError(
                    f"{one.name} needs {need}, which is neither trained nor in the folder of "
                    "initial weights (--from)"
                )


class _Training:
    """The loop that starts, steps and finishes parts by their intervals of the time."""

    def __init__(
        self, settings: RunSettings, plan: Plan, folders: Folders, progress: Progress,
        material: Material, report: Report,
    ):  # fmt: skip
        self.settings, self.plan, self.folders, self.progress = settings, plan, folders, progress
        self.material, self.report = material, report
        self.running: dict[str, Course] = {}
        self.dropped: list[str] = []

    def run(self, clock: Clock, budget: float, rate: float) -> None:
        before, saved = self.progress.trained, 0.0
        often = min(SAVE_SECONDS, SAVE_SHARE * budget)
        self.folders.states.mkdir(parents=True, exist_ok=True)
        self.progress.save(self.folders)
        while self._left():
            self.progress.trained = before + clock.seconds()
            at = self.progress.trained / budget
            self._begin(at, rate)
            self._finish(at)
            self._step(clock, before, budget)
            if clock.seconds() - saved > often:
                self._save()
                saved = clock.seconds()
        self._write_course()
        if self.dropped:
            raise ValueError(f"not trained: {', '.join(self.dropped)}; see above")

    def _left(self) -> list[str]:
        """The parts that are neither finished nor dropped."""
        return [name for name in self.progress.unfinished if name not in self.dropped]

    def _begin(self, at: float, rate: float) -> None:
        """Start the parts that are due and whose needs are finished."""
        for part in self.plan.parts:
            left = self._left()
            due = part.name in left and part.name not in self.running and at >= part.begin
            if not due or any(need in left for need in part.needs):
                continue
            try:
                course = self._course(part)
                course.begin(rate, self.report)
            # The failure of one part must not cost the others their time.
            except Exception as error:
                self._drop(part, f"{type(error).__name__}: {error}")
            else:
                self.running[part.name] = course

    def _course(self, part: Part) -> Course:
        task = TASKS[part.task](part, self.material)
        place, folders = _path(self.folders, part), self.folders
        return Course(part, task, self.settings.device, place, folders.states, folders.logs)

    def _drop(self, part: Part, why: str) -> None:
        """Drop a part, and those that need it unless it has weights from before."""
        self.report(f"{part.name} is skipped: {why}")
        self.dropped.append(part.name)
        for one in self.plan.parts:
            missing = part.name in one.needs and not _path(self.folders, part).is_file()
            if missing and one.name not in self.dropped:
                self._drop(one, f"it needs {part.name}")

    def _step(self, clock: Clock, before: float, budget: float) -> None:
        """One step of the part that has used the least time for its weight."""
        able = [course for course in self.running.values() if course.stepper.ready()]
        if not able:
            time.sleep(2e-4)
            return
        course = min(able, key=lambda one: one.spent / one.part.weight)
        began = clock.seconds()
        course.step((before + began) / budget)
        course.spent += clock.seconds() - began

    def _finish(self, at: float) -> None:
        for name, course in list(self.running.items()):
            if at >= course.part.end and course.stepper.step:
                course.finish(self.report)
                del self.running[name]
                self.progress.finished.append(name)
                course.state.unlink(missing_ok=True)
                self.progress.save(self.folders)
                self._write_course()

    def _save(self) -> None:
        for course in self.running.values():
            course.save()
        self.progress.save(self.folders)
        self._write_course()

    def _write_course(self) -> None:
        logs = [self.folders.logs / f"{one.name}.csv" for one in self.plan.parts]
        write_curves(self.folders.output / "curves.svg", logs)


def _path(folders: Folders, part: Part) -> Path:
    return folders.weights / f"{part.output}.safetensors"


def _copy_weights(start: Path, weights: Path) -> None:
    """Copy the family's files from a folder; ValueError if there are none."""
    files: Iterable[Path] = sorted(start.glob("*.safetensors")) if start.is_dir() else ()
    named = {f"{one.output}.safetensors" for one in load_plan().parts}
    found = [path for path in files if path.name in named]
    if not found:
        raise ValueError(f"there are no weights of the family in {start}")
    for path in found:
        shutil.copyfile(path, weights / path.name)
    if (start / "tokenizer").is_dir():
        shutil.copytree(start / "tokenizer", weights / "tokenizer", dirs_exist_ok=True)
