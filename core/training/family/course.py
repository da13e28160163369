"""The training run of one part: start, steps, logging, checkpoints and the final file."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from .plan import Part
from .timed import Stepper, TimedTask, learning_rate, load_state, save_state, take_over

LOG_SECONDS = 3.0
COLUMNS = ("progress", "step", "loss", "gradient", "learning_rate", "steps_per_second", "share")
"""First columns of every log; the part's own scalars follow. share: of a large matmul's rate."""


class Course:
    """A part in training. Its file of weights is written with every state, not only at the end."""

    def __init__(
        self, part: Part, task: TimedTask, device: torch.device, path: Path, states: Path,
        logs: Path,
    ):  # fmt: skip
        self.part, self.task, self.path = part, task, path
        self.state, self.log = states / f"{part.name}.pt", logs / f"{part.name}.csv"
        taken = not self.state.is_file() and take_over(task, path)
        task.place(device)
        self.stepper = Stepper(part, task, device)
        load_state(self.state, self.stepper)
        self.taken, self.spent, self.rate, self.slowed = taken, 0.0, 1.0, 1.0
        self.resumed = self.stepper.step
        self.logged = self.started = time.perf_counter()
        self.at_log = self.stepper.step

    def begin(self, rate: float, report: Callable[[str], Any]) -> None:
        """Prepare the steps; rate: of a large matrix product, in FLOP/s."""
        self.rate = rate
        self.stepper.prepare(learning_rate(self.part, 0.0), report)
        count = sum(p.numel() for p in self.stepper.average.parameters) / 1e6
        what = "resumes" if self.resumed else "continues its file" if self.taken else "starts"
        mode = "CUDA graph" if self.stepper.captured else "eager"
        report(
            f"{self.part.name} {what}: {count:.2f} M parameters, "
            f"{self.stepper.flops / 1e9:.1f} GFLOP per step, {mode}"
        )
        self.logged = self.started = time.perf_counter()
        self.at_log = self.stepper.step

    def step(self, at: float) -> None:
        """Take a step; at: place in the whole training, from 0 to 1."""
        progress = (at - self.part.begin) / (self.part.end - self.part.begin)
        rate = self.slowed * learning_rate(self.part, min(1.0, max(0.0, progress)))
        self.stepper.take(rate)
        if time.perf_counter() - self.logged > LOG_SECONDS:
            self._log(progress, rate)

    def _log(self, progress: float, rate: float) -> None:
        means = self.stepper.means()
        steps = self.stepper.step - self.at_log
        per_second = steps / (time.perf_counter() - self.logged)
        row = {
            "progress": progress,
            "step": self.stepper.step,
            "learning_rate": rate,
            "steps_per_second": per_second,
            "share": per_second * self.stepper.flops / self.rate,
        } | means
        self._write({name: f"{value:.6g}" for name, value in row.items()})
        self.logged, self.at_log = time.perf_counter(), self.stepper.step
        if not math.isfinite(means.get("loss", 0.0)):
            self._recover()

    def _recover(self) -> None:
        """Recover from a loss that is not finite: resume from the last state at half the learning
        rate."""
        if not self.state.is_file():
            raise ValueError(
                f"{self.part.name}: the loss is not a number after {self.stepper.step} steps"
            )
        load_state(self.state, self.stepper)
        self.slowed *= 0.5

    def _write(self, row: dict[str, str]) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        own = sorted(row.keys() - set(COLUMNS))
        if self.log.is_file():
            with self.log.open(newline="") as file:
                names = next(csv.reader(file))
        else:
            names = [*COLUMNS, *own]
            self.log.write_text(",".join(names) + "\n")
        with self.log.open("a", newline="") as file:
            csv.DictWriter(file, names, restval="", extrasaction="ignore").writerow(row)

    def save(self) -> None:
        """Write the state and the averaged weights, unless the mean loss since the last log is not
        finite."""
        if not math.isfinite(self.stepper.peek("loss")):
            return
        save_state(self.state, self.stepper)
        self._write_file(finished=False)

    def finish(self, report: Callable[[str], Any]) -> None:
        """Write the last log row and the final weights."""
        if self.stepper.step > self.at_log:
            self._log(1.0, 0.0)
        self._write_file(finished=True)
        per_second = (self.stepper.step - self.resumed) / (time.perf_counter() - self.started)
        share = per_second * self.stepper.flops / self.rate
        report(
            f"{self.part.name}: {self.stepper.step} steps, {per_second:.2f} a second, "
            f"{share:.1%} of a large matrix product's rate; {self.path}"
        )

    def _write_file(self, *, finished: bool) -> None:
        notes: dict[str, Any] = {"part": self.part.name, "steps": self.stepper.step}
        notes |= {"batch": self.part.batch, "finished": finished}
        with self.stepper.on_stream(), self.stepper.average.in_place():
            self.task.save(self.path, notes)


def matmul_rate(device: torch.device) -> float:
    """FLOP/s of a large bfloat16 matrix product."""
    side, times = (8192, 8) if device.type == "cuda" else (1024, 2)
    x = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    for _ in range(2):
        x @ x
    _wait(device)
    started = time.perf_counter()
    for _ in range(times):
        x @ x
    _wait(device)
    return times * 2 * side**3 / (time.perf_counter() - started)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
