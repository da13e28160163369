"""Training one part for a given time: its learning rate follows the clock, not the steps.

On a GPU a step (batch, loss, gradients, optimiser) is captured once as a CUDA graph and replayed,
since small networks are bound by kernel launches. If capturing fails, and on a CPU, steps run
eagerly.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ...weights.checkpoints import part, read_state
from ..optimizer import MuonAdamW
from ..trainer import attention_kernel, trained
from .plan import Part

WARM_UP = 3
"""Eager steps before one is captured, as CUDA graphs require."""
BOUND = 2
"""Steps of a part that may be queued on the GPU."""


class TimedTask(Protocol):
    """The training task of a part. ``pattern``: the variants of its batches, step by step."""

    module: nn.Module
    pattern: tuple[int, ...]
    saved_modules: Mapping[str, nn.Module]  # modules in its file, by the prefix of their keys

    def place(self, device: torch.device) -> None:
        """Move everything that a step reads to the device."""

    def draw_batch(self, variant: int, generator: torch.Generator) -> dict[str, Any]:
        """Draw a batch on the device."""

    def loss(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Tensor]:
        """The scalars to log; ``loss`` is the one that is minimised."""

    def save(self, path: Path, notes: dict) -> None:
        """Write the trained weights as safetensors."""


def learning_rate(part: Part, progress: float) -> float:
    """Linear warm-up, then half a cosine down to ``final_rate`` of the peak; progress: in [0, 1] of
    the part's time."""
    if progress < part.warmup:
        return part.learning_rate * max(progress / part.warmup, 0.01)
    done = min(1.0, (progress - part.warmup) / (1 - part.warmup))
    cosine = 0.5 * (1 + math.cos(math.pi * done))
    return part.learning_rate * (part.final_rate + (1 - part.final_rate) * cosine)


def profile_power(deviation: float) -> float:
    """Exponent gamma of the averaging profile t^gamma with relative standard deviation
    ``deviation`` (Karras et al. 2024, equation 126), by bisection."""
    low, high = 0.0, 1e4
    for _ in range(60):
        gamma = (low + high) / 2
        found = math.sqrt((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3)))
        low, high = (gamma, high) if found > deviation else (low, gamma)
    return low


class Average:
    """Power function average of the weights (Karras et al. 2024, section 3.1): its length grows
    with the training, so the number of steps need not be known."""

    def __init__(self, module: nn.Module, deviation: float):
        self.parameters = [p for _, p in trained(module)]
        self.shadow = [p.detach().clone() for p in self.parameters]
        self.power = profile_power(deviation)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update with the weights after ``step`` steps, counted from 1."""
        keep = (1 - 1 / step) ** (self.power + 1)
        torch._foreach_lerp_(self.shadow, self.parameters, 1 - keep)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Swap the averaged weights into the module for the duration of the context."""
        own = [p.detach().clone() for p in self.parameters]
        with torch.no_grad():
            torch._foreach_copy_(self.parameters, self.shadow)
            try:
                yield
            finally:
                torch._foreach_copy_(self.parameters, own)


class Stepper:
    """Takes the steps of a part; the scalars to log are summed on the device."""

    def __init__(
        self, part: Part, task: TimedTask, device: torch.device,
        generator: torch.Generator | None = None,
    ):  # fmt: skip
        self.part, self.task, self.device = part, task, device
        self.generator = generator or torch.Generator(device).manual_seed(part.seed)
        self.rate = torch.zeros((), device=device)
        self.optimizer = MuonAdamW(task.module, lr=self.rate, weight_decay=part.weight_decay)
        self.average = Average(task.module, part.memory)
        self.step = 0
        self.flops = 0.0  # of a step, without the optimiser's
        self._sums: dict[str, Tensor] = {}
        self._replays: dict[int, Callable[[], None]] = {}
        self._events: list[Any] = []
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    @property
    def captured(self) -> bool:
        return bool(self._replays)

    def take(self, rate: float) -> None:
        """Take the next step with learning rate `rate`."""
        pattern = self.task.pattern
        variant = pattern[self.step % len(pattern)]
        with self.on_stream():
            self.rate.fill_(rate)
            if variant in self._replays:
                self._replays[variant]()
            else:
                self.generator.manual_seed(self.part.seed * 1_000_003 + self.step)
                self._eagerly(variant)
            self.step += 1
            self.average.update(self.step)
            if self._stream is not None:
                self._events.append(torch.cuda.Event())
                self._events[-1].record(self._stream)

    def ready(self) -> bool:
        """Whether fewer than BOUND steps of this part are queued on the device."""
        self._events = [event for event in self._events if not event.query()]
        return len(self._events) < BOUND

    def prepare(self, rate: float, report: Callable[[str], Any]) -> None:
        """Count the FLOPs of a step and, on a GPU, capture a graph of each variant."""
        if self._stream is not None:
            torch.cuda.synchronize(self.device)
        with self.on_stream():
            self.rate.fill_(rate)
        pattern = self.task.pattern
        costs = {variant: self._cost(variant) for variant in dict.fromkeys(pattern)}
        self.flops = sum(costs[variant] for variant in pattern) / len(pattern)
        if self._stream is None:
            return
        try:
            self._replays = {variant: self._captured(variant) for variant in costs}
        # Libraries fail in many ways inside a capture; eager steps always work.
        except Exception as error:
            self._replays = {}
            torch.cuda.synchronize(self.device)
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            report(f"{self.part.name}: steps cannot be captured: {reason[:160]}")

    def means(self) -> dict[str, float]:
        """The scalars to log, averaged since the last call."""
        self.wait()
        with self.on_stream():
            sums = {name: value.tolist() for name, value in self._sums.items()}
            for value in self._sums.values():
                value.zero_()
        return {name: total / count for name, (total, count) in sums.items() if count}

    def peek(self, name: str) -> float:
        """The mean of one scalar since the last `means`, without resetting it; 0 if none."""
        self.wait()
        total, count = self._sums[name].tolist() if name in self._sums else (0.0, 0.0)
        return total / count if count else 0.0

    def wait(self) -> None:
        """Block until the device has finished all steps of this part."""
        if self._stream is not None:
            self._stream.synchronize()

    # ----------------------------------------------------------------------------------------------

    def _eagerly(self, variant: int) -> None:
        """One eager step."""
        self._gradients(variant)
        parameters = [p for _, p in trained(self.task.module)]
        norm = nn.utils.clip_grad_norm_(parameters, self.part.clip_gradient)
        self.optimizer.step()
        self._add("gradient", norm)

    def _gradients(self, variant: int) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        half = torch.autocast(self.device.type, torch.bfloat16)
        with half, attention_kernel(self.device):
            batch = self.task.draw_batch(variant, self.generator)
            losses = self.task.loss(batch, self.generator)
        losses["loss"].backward()
        for name, value in losses.items():
            self._add(name, value)

    def _add(self, name: str, value: Tensor) -> None:
        if name not in self._sums:
            self._sums[name] = torch.zeros(2, dtype=torch.double, device=self.device)
        value = value.detach().double()
        self._sums[name] += torch.stack([value, torch.ones_like(value)])

    def _cost(self, variant: int) -> float:
        """FLOPs of one forward and backward pass, which is run to count them."""
        with self.on_stream(), FlopCounterMode(display=False) as counter:
            self._gradients(variant)
        return float(counter.get_total_flops())

    def _captured(self, variant: int) -> Callable[[], None]:
        with self.on_stream():
            for _ in range(WARM_UP):
                self._eagerly(variant)
        torch.cuda.synchronize(self.device)
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self.generator)
        self.optimizer.zero_grad(set_to_none=True)
        with torch.cuda.graph(graph, stream=self._stream):
            self._eagerly(variant)
        return graph.replay

    @contextmanager
    def on_stream(self) -> Iterator[None]:
        """Run the context's kernels on the part's stream, in order with its steps."""
        if self._stream is None:
            yield
            return
        with torch.cuda.stream(self._stream):
            yield


# --------------------------------------------------------------------------------------------------
# States.


def save_state(path: Path, stepper: Stepper) -> None:
    """Write everything needed to resume, atomically."""
    stepper.wait()
    state = {
        "step": stepper.step,
        "weights": [p.detach() for p in stepper.average.parameters],
        "average": stepper.average.shadow,
        "optimizer": stepper.optimizer.state_dict()["state"],
    }
    torch.save(state, path.with_suffix(".tmp"))
    os.replace(path.with_suffix(".tmp"), path)


def load_state(path: Path, stepper: Stepper) -> None:
    """Restore a state, if there is one."""
    if not path.is_file():
        return
    state = torch.load(path, map_location=stepper.device, weights_only=True)
    moved = [p for group in stepper.optimizer.param_groups for p in group["params"]]
    with torch.no_grad(), stepper.on_stream():
        torch._foreach_copy_(stepper.average.parameters, state["weights"])
        torch._foreach_copy_(stepper.average.shadow, state["average"])
        for number, parameter in enumerate(moved):
            saved = state["optimizer"].get(number, {})
            _restore(stepper.optimizer.state[parameter], saved)
    stepper.step = state["step"]


def _restore(own: dict[str, Tensor], saved: dict[str, Tensor]) -> None:
    """Copy saved values into existing tensors, which a captured step refers to; zero those that
    were not saved."""
    for name in own.keys() - saved.keys():
        own[name].zero_()
    for name, value in saved.items():
        if name in own:
            own[name].copy_(value)
        else:
            own[name] = value.clone()


def take_over(task: TimedTask, path: Path) -> bool:
    """Load the weights of a part's file if it exists and all names and shapes match; returns
    whether it did."""
    if not path.is_file():
        return False
    state = read_state(path)
    found = {prefix: part(state, prefix) for prefix in task.saved_modules}
    for prefix, module in task.saved_modules.items():
        own = module.state_dict()
        if own.keys() - found[prefix].keys():
            return False
        if any(own[name].shape != found[prefix][name].shape for name in own):
            return False
    for prefix, module in task.saved_modules.items():
        own = module.state_dict()
        module.load_state_dict({name: found[prefix][name].float() for name in own})
    return True
