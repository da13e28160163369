"""Runs the recorded cases of LVDM's long videos: with the tasks that all models use, and as the
shipped script makes them, mistakes included."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from factorised_cases import SAMPLED, guidance_of
from golden_cases import Case, check_sampled
from lvdm_cases import decoded, model_of
from torch import Tensor
from videoldm.core.families.factorised_sampling import ddim_plan
from videoldm.core.families.lvdm_sampling import (
    context_use,
    filled_keys,
    shipped_long_video,
)
from videoldm.core.networks.conditions import Conditions
from videoldm.core.tasks.long_video import Between, Continuation, Hierarchy, hierarchical
from videoldm.core.tasks.segment import Sampling


@dataclass
class Recorded:
    """The recorded noise of one window, instead of a `NoiseSource`. positions: of its given
    frames."""

    positions: list[int]
    given: Tensor | None
    start: Tensor
    steps: list[Tensor]

    def initial(self, x: Tensor) -> Tensor:
        return self.start

    def like(self, x: Tensor, *, stream: str) -> Tensor:
        assert stream == "perturbation"
        noise = torch.zeros_like(x)
        noise[:, self.positions] = self.given
        return noise

    def __call__(self, step: int, x: Tensor) -> Tensor:
        return self.steps[step]


@dataclass(frozen=True)
class RecordedSampling(Sampling):
    """Windows with their recorded noise; the n-th begins `stride` frames after the one before."""

    windows: list[Recorded] = field(default_factory=list)
    stride: int = 1

    def noise(self, videos, frames):
        return self.windows[frames[0] // self.stride]


def windows_of(
    noises: list[Tensor], steps: int, positions: list[int], perturbed: bool
) -> list[Recorded]:
    """Windows from their noise in the order in which the original drew it: of the given frames at
    these positions, if they are perturbed, of the start, then of every step."""
    noises, found = list(noises), []
    while noises:
        is_given = bool(found) or -1 in positions  # a first prediction has no given frames
        given = noises.pop(0) if is_given and perturbed else None
        start, *of_steps = (noises.pop(0) for _ in range(1 + steps))
        found.append(Recorded(positions, given, start, of_steps))
    return found


@torch.no_grad()
def long_video(case: Case, folder: Path) -> None:
    told, inputs, expected = case.told, case.inputs(), case.expected()
    models = {
        name: model_of(Case(case.folder.parent / told[f"model_case_{name}"]), folder, "average")
        for name in ("pred", "interp")
    }
    for run, how in told["runs"].items():
        given = {k.removeprefix(f"{run}."): v for k, v in inputs.items() if k.startswith(f"{run}.")}
        check_run(run, how, models, given, expected)


@dataclass(frozen=True)
class Windows:
    """The recorded windows of a run: of the prediction, and of the interpolation between all pairs
    of key frames or, where `shipped`, between those that the script fills in."""

    predicted: list[Recorded]
    filled: list[Recorded]
    shipped: bool


def recorded_windows(given: dict[str, Tensor], how: dict, steps: int) -> Windows:
    noise, all_pairs = (
        [given[k] for k in sorted(given) if k.startswith(name)] for name in ("noise", "fnoise")
    )
    count, perturbed = how["n_random_pred"], how["s"] is not None
    first = windows_of(noise[:count], steps, list(range(how["T_cond"])), perturbed)
    filled = windows_of(all_pairs or noise[count:], steps, [0, -1], perturbed)
    return Windows(first, filled, not all_pairs)


def check_run(run: str, how: dict, models: dict, given: dict[str, Tensor], expected: dict) -> None:
    first, between = models["pred"].model, models["interp"].model
    window, factor = first.network.spec.frames, between.network.spec.frames - 1
    assert how["sample_type"] == "ddim"
    plan_of = ddim_plan(first.schedule, how["S"], how["eta"])
    windows = recorded_windows(given, how, len(plan_of.sigmas) - 1)
    known = expected[f"{run}.keyframe_latents"]
    pairs = (filled_keys(known.shape[1]) if windows.shipped else known.shape[1]) - 1
    assert (len(windows.predicted), len(windows.filled)) == (how["n_pred_steps"] + 1, pairs)
    drawn = dict(sampler=plan_of.sample, sigmas=plan_of.sigmas)
    stride = factor * (window - how["T_cond"])
    sampling = RecordedSampling(**drawn, windows=windows.predicted, stride=stride)
    filling = RecordedSampling(**drawn, windows=windows.filled, stride=factor)
    use = context_use(first.schedule, how["s"], guidance_of(how, how["uncond_scale"]))

    def denoiser_for(condition, model=first):
        return model.denoiser(Conditions(context=condition.context))

    middle = Between(
        denoiser_for=lambda c: denoiser_for(c, between), sampling=filling, use=use, window_keys=2,
        rate=None, passes=1, factor=factor,
    )  # fmt: skip
    size = (len(known), *known.shape[2:])
    if how["variant"] == "as_is":
        frames = factor * (known.shape[1] - 1) + 1
        made = shipped_long_video(denoiser_for, size, sampling, frames, middle)
    else:
        keys = Continuation(window=window, context=how["T_cond"], use=use)
        level = Hierarchy(keys=keys, between=middle)
        made = hierarchical(denoiser_for, size, sampling, factor * pairs + 1, settings=level)
    made = torch.cat(list(made), dim=1)
    name = "long_latents" if windows.shipped else "long_latents_all_pairs"
    check_sampled(made, expected[f"{run}.{name}"], f"{run}.{name}", SAMPLED)
    check_sampled(made[:, ::factor], known[:, : pairs + 1], f"{run}.keyframe_latents", SAMPLED)
    if windows.shipped and f"{run}.video" in expected:
        video = decoded(models["interp"], made)
        check_sampled(video, expected[f"{run}.video"], f"{run}.video", SAMPLED)


KINDS = {"long": long_video}
