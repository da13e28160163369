"""Runs the recorded cases of rolling denoising (FIFO-Diffusion)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from golden_cases import Case, check_close
from torch import Tensor
from videoldm.core.diffusion.denoiser import to_vp
from videoldm.core.diffusion.guidance import guided
from videoldm.core.diffusion.preconditioning import EpsPreconditioning, preconditioned
from videoldm.core.diffusion.samplers import sample_ddim
from videoldm.core.diffusion.sampling_plan import Plan
from videoldm.core.diffusion.schedules import NoiseSchedule, get_sigmas_at, scaled_linear
from videoldm.core.families.factorised_sampling import DdimPlan, ScaledSignalSchedule
from videoldm.core.tasks.rolling import FirstWindow, Rolling, rolling, start_queue
from videoldm.core.tasks.segment import Sampling

EXACT = 1e-5


@dataclass
class Recorded:
    """The recorded noise of these frames, instead of a `NoiseSource`."""

    sampling: RecordedSampling
    frames: tuple[int, ...]

    def initial(self, x: Tensor) -> Tensor:
        if len(self.frames) > 1:
            return self.sampling.given["base_x_T"]
        # The frame that joins when k have left.
        k = self.frames[0] - self.sampling.window
        return self.sampling.given["shift_noise"][k][:, None]

    def like(self, x: Tensor, *, stream: str) -> Tensor:
        return self.sampling.given["init_noise"]

    def __call__(self, step: int, x: Tensor) -> Tensor:
        if len(self.frames) > 1:
            return self.sampling.given["base_noise"][step]
        return self.sampling.of_step(self.frames[0], step)


@dataclass(frozen=True)
class RecordedSampling(Sampling):
    """Noise recorded as [iteration, call, b, t, c, h, w], looked up by frame and step."""

    given: dict[str, Tensor] = field(default_factory=dict)
    windows: tuple[dict, ...] = ()
    front: int = 0
    window: int = 0

    def noise(self, videos, frames):
        return Recorded(self, tuple(frames))

    def of_step(self, number: int, step: int) -> Tensor:
        steps = len(self.sigmas) - 1
        position = self.front + steps - 1 - step
        iteration = number - (position - self.front) + steps - self.window
        call, slot = next(
            (one["order"], position - one["start"])
            for one in self.windows
            if one["updated_from"] <= position < one["updated_to"]
        )
        return self.given["step_noise"][iteration, call][:, slot : slot + 1]


def frames_second(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Videos from ... c t h w to ... t c h w; single frames [n b c h w] and the rest stay."""
    out = {}
    for name, value in tensors.items():
        is_video = value.ndim >= 5 and not name.endswith("shift_noise")
        out[name] = value.transpose(-3, -4) if is_video else value
    return out


def network(inputs: dict[str, Tensor], u: float, of: str):
    """The recorded formula that stands in for a network, with the prompt `of`."""
    matrix, d, prompt = inputs["denoiser.M"], inputs["denoiser.d"], inputs[of][0]

    def predict(x: Tensor, t: Tensor) -> Tensor:
        mixed = torch.einsum("oc,btchw->btohw", matrix, x) + u * x.mean(1, keepdim=True)
        t = t.reshape(len(x), -1, 1, 1, 1).double()
        wave = (0.005 * t).sin().float() * d[:, None, None]
        return mixed + wave + prompt[:, None, None]

    return predict


def denoisers(inputs: dict[str, Tensor], u: float, scale: float, schedule: NoiseSchedule):
    cond, uncond = (
        preconditioned(network(inputs, u, name), EpsPreconditioning(schedule))
        for name in ("cond", "uncond")
    )
    return lambda condition: guided(cond, uncond, scale)


@torch.no_grad()
def procedure(case: Case, folder: Path) -> None:
    told, inputs = case.told, frames_second(case.raw("inputs"))
    expected = frames_second(case.raw("expected"))
    for run, how in told["runs"].items():
        given = {k.removeprefix(f"{run}/"): v for k, v in inputs.items() if k.startswith(f"{run}/")}
        check_run(run, how, inputs | given, expected, told["denoiser"]["u"])


def check_run(run: str, how: dict, given: dict, expected: dict, u: float) -> None:
    schedule, steps, window = scaled_linear(), how["num_inference_steps"], how["video_length"]
    timesteps = expected[f"{run}/queue_timesteps"][-steps:].flip(0)
    sigmas = get_sigmas_at(schedule, timesteps, end_on_first=True)
    eta, lookahead = how["eta"], how["lookahead"]
    settings = Rolling(window=window, lookahead=lookahead, eta=eta, chunk=5)
    plan = Plan(schedule=schedule, sampler=partial(sample_ddim, eta=eta), sigmas=sigmas)
    sampling = RecordedSampling(
        sampler=plan.sample, sigmas=sigmas, given=given, windows=tuple(how["windows"]),
        front=settings.front, window=window,
    )  # fmt: skip
    if how["use_scale"]:
        settings = replace(settings, first=rescaled_first(sampling, timesteps, how, u))
    denoiser_for = denoisers(given, u, how["cfg_scale"], schedule)
    b, _, *image = given["base_x_T"].shape
    check_queue(run, how, denoiser_for, (b, *image), sampling, settings, expected)
    kept = how["new_video_length"]
    video = torch.cat(
        list(rolling(denoiser_for, (b, *image), sampling, kept, settings=settings)), dim=1
    )
    check_close(video, expected[f"{run}/frames"][:, -kept:], f"{run}: kept frames", EXACT)


def rescaled_first(
    sampling: RecordedSampling, timesteps: Tensor, how: dict, u: float
) -> FirstWindow:
    """The original fades the signal in the first window only."""
    scales = torch.full((1000,), 0.7, dtype=torch.float64)
    scales[:400] = torch.linspace(1, 0.7, 400, dtype=torch.float64)
    faded = ScaledSignalSchedule(scaled_linear().alphas_cumprod, signal_scales=scales)
    sigmas = get_sigmas_at(faded, timesteps, end_on_first=True)
    plan = DdimPlan(schedule=faded, sampler=sample_ddim, sigmas=sigmas, eta=how["eta"])
    first = replace(sampling, sampler=plan.sample, sigmas=sigmas)
    denoiser_for = denoisers(sampling.given, u, how["cfg_scale"], faded)
    return FirstWindow(denoiser_for=denoiser_for, sampling=first)


def check_queue(run, how, denoiser_for, size, sampling, settings, expected) -> None:
    """Checks every emitted frame, and the queue before and after it leaves."""
    queue = start_queue(denoiser_for, size, sampling, settings)
    assert [
        (one.seen.start, one.seen.stop, one.updated.start, one.updated.stop)
        for one in queue.windows
    ] == [
        tuple(one[name] for name in ("start", "end", "updated_from", "updated_to"))
        for one in reversed(how["windows"])
    ]

    def check(name: str, at: int | None = None, levels: Tensor = queue.levels) -> None:
        if f"{run}/{name}" not in expected:
            return  # The case in the repository leaves some queues out.
        known = expected[f"{run}/{name}"]
        got = to_vp(queue.x, levels[None])
        check_close(got, known if at is None else known[at], f"{run}: {name} {at}", EXACT)

    check("queue_init")
    for k in range(how["iterations"]):
        queue.step()
        check("queue_before_shift", k, queue.below)
        frame = queue.shift()
        check("queue", k)
        known = expected[f"{run}/frames"][:, k : k + 1]
        check_close(frame, known, f"{run}: frame {k}", EXACT)


KINDS = {"rolling": procedure}
