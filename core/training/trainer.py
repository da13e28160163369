"""The training loop of all recipes: resumable, with averaged weights and loss curves.

A task (see :mod:`.tasks`) supplies the loss, and batches as a pure function of the step, so that a
resumed run sees exactly the batches it would have seen without the interruption.
"""

from __future__ import annotations

import csv
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, Dataset

from .optimizer import MuonAdamW
from .recipe import Recipe
from .tasks import Task


class Batches(Dataset):
    """A task's batches, indexed by step."""

    def __init__(self, task: Task):
        self.batch = task.batch

    def __getitem__(self, step: int) -> dict:
        return self.batch(step)


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, then half a cosine down to ``final_rate`` of the peak."""
    if step < recipe.warmup:
        return recipe.learning_rate * (step + 1) / recipe.warmup
    progress = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return recipe.learning_rate * (recipe.final_rate + (1 - recipe.final_rate) * cosine)


class Average:
    """Exponential moving average of the trained parameters; the decay of step s is at most
    (1 + s) / (10 + s), which forgets the initial weights quickly."""

    def __init__(self, module: nn.Module, decay: float):
        self.decay = decay
        self.shadow = {n: p.detach().clone() for n, p in trained(module)}

    def update(self, module: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, parameter in trained(module):
            self.shadow[name].lerp_(parameter.detach(), 1 - decay)

    def copy_to(self, module: nn.Module) -> None:
        for name, parameter in trained(module):
            parameter.data.copy_(self.shadow[name])


def trained(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters that are trained, with their names."""
    return ((n, p) for n, p in module.named_parameters() if p.requires_grad)


def train(
    recipe: Recipe,
    task: Task,
    folder: Path,
    *,
    device: torch.device,
    workers: int = 1,
    report: Callable[[str], None] = print,
) -> Path:
    """Run ``recipe``, resuming from a state in ``folder`` if there is one; return the path of the
    weights."""
    folder.mkdir(parents=True, exist_ok=True)
    module = task.module.to(device)
    count = sum(p.numel() for _, p in trained(module))
    report(f"{recipe.name}: {count / 1e6:.2f} M trained parameters on {device}")
    optimizer = MuonAdamW(module, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    average = Average(module, recipe.ema)
    start = load_training_state(folder, module, optimizer, average, device)
    batches = DataLoader(
        Batches(task),
        batch_size=None,
        sampler=range(start, recipe.steps),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
    )
    with CurveLog(folder, start) as log, progress_bar(recipe, start, report) as advance:
        for step, batch in enumerate(batches, start):
            logs = training_step(recipe, task, module, optimizer, batch, step, device)
            average.update(module, step)
            log.add(step, logs)
            advance(logs["loss"])
            if (step + 1) % recipe.save_every == 0 or step + 1 == recipe.steps:
                save_training_state(folder, module, optimizer, average, step + 1)
                log.draw()
    average.copy_to(module)
    path = folder / recipe.output
    task.save(path, {"recipe": recipe.name, "steps": recipe.steps, "batch": recipe.batch})
    return path


def training_step(
    recipe: Recipe,
    task: Task,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: dict,
    step: int,
    device: torch.device,
) -> dict[str, float]:
    """One optimiser step; returns the scalars to log."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(recipe, step)
    batch = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()}
    generator = torch.Generator(device).manual_seed(recipe.seed * 1_000_003 + step)
    half = torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16")
    with half, attention_kernel(device):
        losses = task.loss(batch, generator)
    optimizer.zero_grad(set_to_none=True)
    losses["loss"].backward()
    norm = nn.utils.clip_grad_norm_([p for _, p in trained(module)], recipe.clip_gradient)
    optimizer.step()
    return {k: float(v.detach()) for k, v in losses.items()} | {"gradient": float(norm)}


def attention_kernel(device: torch.device) -> AbstractContextManager:
    """Context that selects the plain attention kernel on the CPU, where the backward pass of the
    fused one takes several times as long for a few hundred tokens."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


# -------------------------------------------------------------------------------------------------
# Resuming.


def save_training_state(
    folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer, average: Average, step: int
) -> None:
    """Write everything needed to resume, atomically."""
    state = {
        "step": step,
        "weights": {n: p.detach() for n, p in trained(module)},
        "average": average.shadow,
        "optimizer": optimizer.state_dict(),
    }
    torch.save(state, folder / "state.pt.tmp")
    os.replace(folder / "state.pt.tmp", folder / "state.pt")


def load_training_state(
    folder: Path,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: Average,
    device: torch.device,
) -> int:
    """Restore a run; returns the next step, 0 if there is no state."""
    path = folder / "state.pt"
    if not path.is_file():
        return 0
    state = torch.load(path, map_location=device, weights_only=True)
    for name, parameter in trained(module):
        parameter.data.copy_(state["weights"][name])
    average.shadow = state["average"]
    optimizer.load_state_dict(state["optimizer"])
    return state["step"]


# -------------------------------------------------------------------------------------------------
# Progress and logs.


@contextmanager
def progress_bar(
    recipe: Recipe, start: int, report: Callable[[str], None]
) -> Iterator[Callable[[float], None]]:
    """Show step, loss and time left as a bar, or without a terminal as lines for `report` now and
    then. Yields a function that takes the loss and advances by one step."""
    columns = (
        TextColumn(recipe.name),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4f}"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)  # stdout is kept for the command's result
    if not console.is_terminal:
        yield _report_lines(recipe, start, report)
        return
    with Progress(*columns, refresh_per_second=1, console=console) as bar:
        task = bar.add_task(recipe.name, total=recipe.steps, completed=start, loss=float("nan"))
        yield lambda loss: bar.update(task, advance=1, loss=loss)


def _report_lines(
    recipe: Recipe, start: int, report: Callable[[str], None], every: float = 30.0
) -> Callable[[float], None]:
    """The function for :func:`progress_bar` that reports a line every `every` seconds."""
    started = last = time.monotonic()
    step = start

    def advance(loss: float) -> None:
        nonlocal last, step
        step, now = step + 1, time.monotonic()
        if now - last >= every:
            left = (now - started) / (step - start) * (recipe.steps - step)
            report(
                f"{recipe.name}: step {step} of {recipe.steps}, loss {loss:.4f}, {left:.0f} s left"
            )
            last = now

    return advance


class CurveLog:
    """Write the logged scalars, averaged over ``every`` steps, to ``log.csv``, and plot them."""

    def __init__(self, folder: Path, start: int, every: int = 25):
        self.folder, self.every = folder, every
        self.sums: dict[str, float] = {}
        self.count, self.started = 0, time.monotonic()
        self.append = start > 0 and (folder / "log.csv").is_file()

    def __enter__(self) -> CurveLog:
        self.file = (self.folder / "log.csv").open("a" if self.append else "w", newline="")
        return self

    def __exit__(self, *_) -> None:
        self.file.close()

    def add(self, step: int, logs: dict[str, float]) -> None:
        for key, value in logs.items():
            self.sums[key] = self.sums.get(key, 0.0) + value
        self.count += 1
        if self.count == self.every:
            self._write(step)

    def _write(self, step: int) -> None:
        row = {"step": step + 1} | {k: v / self.count for k, v in self.sums.items()}
        row["seconds"] = (time.monotonic() - self.started) / self.count
        writer = csv.DictWriter(self.file, row)
        if self.file.tell() == 0:
            writer.writeheader()
        writer.writerow({k: f"{v:.6g}" for k, v in row.items()})
        self.file.flush()
        self.sums, self.count, self.started = {}, 0, time.monotonic()

    def draw(self) -> None:
        """Plot every logged column to ``curves.png``; does nothing without matplotlib."""
        try:
            from matplotlib.figure import Figure
        except ImportError:
            return
        with (self.folder / "log.csv").open() as file:
            rows = list(csv.DictReader(file))
        names = [n for n in (rows[0] if rows else {}) if n not in ("step", "seconds")]
        names = [n for n in names if any(float(row[n]) > 0 for row in rows)]  # log scale
        if not names:
            return
        figure = Figure(figsize=(4 * len(names), 3), layout="constrained")
        for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
            axes.plot([float(r["step"]) for r in rows], [float(r[name]) for r in rows], lw=1)
            axes.set(title=name, xlabel="step", yscale="log")
        figure.savefig(self.folder / "curves.png", dpi=80)
