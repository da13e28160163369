"""What is run with LVDM's cases of long videos: by the tasks that all models use, and the shipped
script with its mistakes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from factorised_cases import SAMPLED
from golden_cases import Case, check_sampled
from lvdm_cases import decoded, model_of
from torch import Tensor
from videoldm.core.families.factorised_sampling import GUIDANCE, ddim_plan
from videoldm.core.families.lvdm_sampling import (
    context_use,
    filled_keys,
    shipped_long_video,
)
from videoldm.core.networks.conditions import Conditions
from videoldm.core.tasks.long_video import Between, Continuation, Hierarchy, hierarchical
from videoldm.core.tasks.segment import Sampling

WINDOW, BETWEEN = 4, 5  # latent frames of a predicted and of an interpolated window


@dataclass
class Recorded:
    """The recorded noise of one window, in the place of a `NoiseSource`."""

    given: Tensor | None
    start: Tensor
    steps: list[Tensor]

    def initial(self, x: Tensor) -> Tensor:
        return self.start

    def like(self, x: Tensor, *, stream: str) -> Tensor:
        """The noise of given frames, which stand first, or first and last."""
        assert stream == "perturbation"
        noise = torch.zeros_like(x)
        positions = [0, -1][: self.given.shape[1]]
        noise[:, positions] = self.given
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


def windows_of(noises: list[Tensor], steps: int, count: int, given_first: bool) -> list[Recorded]:
    """Windows in the order in which the original drew their noise."""
    noises, found = list(noises), []
    for k in range(count):
        given = noises.pop(0) if k or given_first else None
        found.append(Recorded(given, noises.pop(0), [noises.pop(0) for _ in range(steps)]))
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


def check_run(run: str, how: dict, models: dict, given: dict[str, Tensor], expected: dict) -> None:
    first, between = models["pred"].model, models["interp"].model
    schedule, steps = first.schedule, how["S"]
    assert how["sample_type"] == "ddim"
    keys = WINDOW + how["n_pred_steps"] * (WINDOW - how["T_cond"])
    plan_of = ddim_plan(schedule, steps, how["eta"])
    noise = [given[k] for k in sorted(given) if k.startswith("noise")]
    count = how["n_random_pred"]
    predicted = windows_of(noise[:count], steps, how["n_pred_steps"] + 1, False)
    all_pairs = [given[k] for k in sorted(given) if k.startswith("fnoise")]
    pairs = keys - 1 if all_pairs else filled_keys(keys) - 1
    filled = windows_of(all_pairs or noise[count:], steps, pairs, True)
    drawn = dict(sampler=plan_of.sample, sigmas=plan_of.sigmas)
    sampling = RecordedSampling(**drawn, windows=predicted, stride=4 * (WINDOW - how["T_cond"]))
    filling = RecordedSampling(**drawn, windows=filled, stride=BETWEEN - 1)
    use = context_use(schedule, how["s"], GUIDANCE[how["uc_type"]](how["uncond_scale"]))

    def denoiser_for(condition, model=first):
        return model.denoiser(Conditions(context=condition.context))

    size = (1, *expected[f"{run}.keyframe_latents"].shape[2:])
    middle = Between(
        denoiser_for=lambda c: denoiser_for(c, between),
        sampling=filling,
        use=use,
        window_keys=2,
        rate=None,
        passes=1,
    )
    if how["variant"] == "as_is":
        made = shipped_long_video(denoiser_for, size, sampling, 4 * (keys - 1) + 1, middle)
    else:
        level = Hierarchy(
            keys=Continuation(window=WINDOW, context=how["T_cond"], use=use), between=middle
        )
        made = hierarchical(denoiser_for, size, sampling, 4 * pairs + 1, how=level)
    made = torch.cat(list(made), dim=1)
    name = "long_latents_all_pairs" if all_pairs else "long_latents"
    check_sampled(made, expected[f"{run}.{name}"], f"{run}.{name}", SAMPLED)
    known = expected[f"{run}.keyframe_latents"][:, : pairs + 1]
    check_sampled(made[:, ::4], known, f"{run}.keyframe_latents", SAMPLED)
    if not all_pairs:
        video = decoded(models["interp"], made)
        check_sampled(video, expected[f"{run}.video"], f"{run}.video", SAMPLED)


KINDS = {"long": long_video}
