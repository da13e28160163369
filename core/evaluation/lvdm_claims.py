"""LVDM's two claims on long videos, tested on the embedded world (He et al. 2022, section 3.4).

Conditional latent perturbation (noise on given frames) and unconditional guidance should keep the
quality of long videos from degrading. Quality is the Fréchet distance between a window of all
videos of a seed and real clips; the features are the spatial means of the last layer of the 3D
autoencoder's encoder, one per latent frame. Rendered videos of the same length are the reference
without drift.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ..families.embedded import worlds
from ..networks.autoencoder_3d import Autoencoder3D
from .distances import frechet_distance
from .driving_rules import measure_frames
from .lvdm_videos import VARIANTS, EmbeddedLvdm, Length, Variant, kept_name

CLIP = 16
"""Frames that are encoded together, as in the autoencoder's training."""
WINDOWS = 8
SIDE = 64
REAL_CLIPS, REAL_SEED, LATEST_START = 256, 900_000, 240.0
"""Of real clips; the seeds differ from those of the rendered videos."""
SEEDS = (1000, 2000, 3000)
MEASURES = ("distance", "light kept", "sky error", "detail", "motion")


@dataclass(frozen=True)
class Course:
    """The measures along videos, by name in MEASURES, one value per window."""

    by_name: dict[str, list[float]]

    def ends(self, name: str) -> tuple[float, float]:
        """Means over the first and over the last quarter of the windows."""
        values = self.by_name[name]
        quarter = max(1, len(values) // 4)
        return mean(values[:quarter]), mean(values[-quarter:])

    def drift(self, name: str = "distance") -> float:
        first, last = self.ends(name)
        return last - first


@dataclass(frozen=True, kw_only=True)
class Claims:
    """The courses of each variant, one per seed, and of the rendered videos."""

    length: Length
    seeds: Sequence[int]
    courses: dict[str, list[Course]]


# --------------------------------------------------------------------------------------------------
# Features.


@torch.no_grad()
def features(autoencoder: Autoencoder3D, clips: Tensor) -> Tensor:
    """Features [b t d] of clips [b frames 3 h w], one per latent frame."""
    encoder = autoencoder.encoder
    h = encoder.conv_in(rearrange(clips, "b t c h w -> b c t h w"))
    for stage in encoder.stages:
        h = stage(h)
    return F.silu(encoder.norm_out(h)).mean(dim=(-2, -1)).transpose(1, 2)


def real_features(autoencoder: Autoencoder3D, clips: int = REAL_CLIPS) -> Tensor:
    """Features [n d] of rendered clips at random times."""
    random = np.random.default_rng(REAL_SEED)
    found = []
    for index in range(clips):
        start = random.uniform(0, LATEST_START)
        found.append(features(autoencoder, rendered(REAL_SEED + index, start, CLIP)[None])[0])
    return torch.cat(found)


def rendered(seed: int, start: float, frames: int) -> Tensor:
    """Frames [t 3 h w] of a seed's scene."""
    scene = worlds.sample_scene("driving", seed)
    return torch.from_numpy(worlds.render(scene, times=start + np.arange(frames), size=SIDE))


# --------------------------------------------------------------------------------------------------
# One course.


def course(autoencoder: Autoencoder3D, video: Iterator[Tensor], real: Tensor) -> Course:
    """Measure videos that come in chunks [b t 3 h w]."""
    parts, shown = [], []
    for clip in in_clips(video):
        parts.append(features(autoencoder, clip))
        shown.append(measure_frames(clip))
    found = torch.cat(parts, dim=1)
    light, sky, detail, motion = (torch.cat(values, dim=1) for values in zip(*shown, strict=True))
    by_name = {
        "distance": [
            float(frechet_distance(part.flatten(0, 1).double(), real.double()))
            for part in _windows(found)
        ],
        "light kept": _means((light == light[:, :1]).float()),
        "sky error": _means(sky.float()),
        "detail": _means(detail),
        "motion": _means(motion),
    }
    return Course(by_name)


def in_clips(video: Iterator[Tensor]) -> Iterator[Tensor]:
    """Regroup a video's chunks into clips of CLIP frames; an incomplete last one is dropped."""
    held: Tensor | None = None
    for chunk in video:
        held = chunk if held is None else torch.cat([held, chunk], dim=1)
        while held.shape[1] >= CLIP:
            yield held[:, :CLIP]
            held = held[:, CLIP:]


def _windows(values: Tensor) -> tuple[Tensor, ...]:
    return values.tensor_split(WINDOWS, dim=1)


def _means(values: Tensor) -> list[float]:
    return [float(part.mean()) for part in _windows(values)]


# --------------------------------------------------------------------------------------------------
# All variants.


def measured(
    folder: Path,
    say: Callable[[str], object],
    *,
    length: Length = Length(),  # noqa: B008 (frozen)
    seeds: Sequence[int] = SEEDS,
    clips: int = REAL_CLIPS,
) -> Claims:
    """Measure every variant for every seed. Latents and measures are cached in the folder, so that
    an interrupted run can be resumed; `say` gets a line for each."""
    models = EmbeddedLvdm()
    real = real_features(models.autoencoder, clips)
    courses: dict[str, list[Course]] = {"rendered": []}
    courses |= {variant.name: [] for variant in VARIANTS}

    def add(name: str, seed: int, video: Callable[[], Iterator[Tensor]]) -> None:
        path = folder / f"{kept_name(name, length)}-{seed}-measures-{clips}.json"
        one = _kept(path, lambda: course(models.autoencoder, video(), real))
        courses[name].append(one)
        first, last = one.ends("distance")
        say(f"seed {seed}, {name}: distance {first:.2f} at the start, {last:.2f} at the end")

    for seed in seeds:
        add("rendered", seed, partial(_rendered_videos, seed, length))
        for variant in VARIANTS:
            add(variant.name, seed, partial(_sampled, models, variant, length, seed, folder))
    return Claims(length=length, seeds=seeds, courses=courses)


def _kept(path: Path, measure: Callable[[], Course]) -> Course:
    """A course from its file, else measured and written there."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".new")
        unfinished.write_text(json.dumps(measure().by_name))
        unfinished.replace(path)
    return Course(json.loads(path.read_text()))


def _sampled(
    models: EmbeddedLvdm, variant: Variant, length: Length, seed: int, folder: Path
) -> Iterator[Tensor]:
    return models.pixels(models.kept(variant, length, seed, folder).latents)


def _rendered_videos(seed: int, length: Length) -> Iterator[Tensor]:
    """Rendered videos [b t 3 h w], as many as are sampled per seed, clip by clip."""
    for start in range(0, length.frames, CLIP):
        yield torch.stack([rendered(seed + k, start, CLIP) for k in range(length.videos)])


# --------------------------------------------------------------------------------------------------
# Verdicts.

CLAIMS = (
    ("perturbation, with guidance", "perturbation and guidance", "guidance"),
    ("perturbation, without guidance", "perturbation", "neither"),
    ("guidance, with perturbation", "perturbation and guidance", "perturbation"),
    ("guidance, without perturbation", "guidance", "neither"),
)
"""(claim, the variant that should drift less, the one it is compared with)."""


def verdicts(claims: Claims) -> list[dict[str, Any]]:
    """For each claim the drifts with and without, and the number of seeds where the first is
    smaller."""
    found = []
    for what, having, lacking in CLAIMS:
        drifts = [[one.drift() for one in claims.courses[name]] for name in (having, lacking)]
        smaller = sum(a < b for a, b in zip(*drifts, strict=True))
        found.append({"claim": what, "with": drifts[0], "without": drifts[1],
                      "seeds": len(claims.seeds), "smaller": smaller})  # fmt: skip
    return found


def verdict_line(verdict: dict[str, Any]) -> str:
    """A verdict as a sentence; a claim reproduces only if it holds for every seed."""
    every = verdict["smaller"] == verdict["seeds"]
    answer = "reproduces" if every else "does not reproduce"
    return (
        f"less drift by {verdict['claim']}: {mean(verdict['with']):+.2f} against "
        f"{mean(verdict['without']):+.2f}, smaller in {verdict['smaller']} of "
        f"{verdict['seeds']} seeds: {answer}"
    )


def table(claims: Claims) -> str:
    """A Markdown table: each variant's measures in the first and last quarter, mean of seeds."""
    lines = ["| variant | " + " | ".join(MEASURES) + " | drift of each seed |"]
    lines.append("|---" * (len(MEASURES) + 2) + "|")
    for name, courses in claims.courses.items():
        cells = [_cell(courses, measure) for measure in MEASURES]
        drifts = ", ".join(f"{one.drift():+.2f}" for one in courses)
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {drifts} |")
    return "\n".join(lines)


def _cell(courses: Sequence[Course], name: str) -> str:
    ends = [one.ends(name) for one in courses]
    return " → ".join(f"{mean(side):.3g}" for side in zip(*ends, strict=True))


def report(folder: Path, say: Callable[[str], object] = print) -> tuple[dict[str, Any], str]:
    """(values, text) of everything; also writes the plot beside the latents."""
    from .lvdm_plot import write_plot

    claims = measured(folder, say)
    found = verdicts(claims)
    path = write_plot(folder / "lvdm_claims.svg", claims)
    values = {name: [one.by_name for one in courses] for name, courses in claims.courses.items()}
    lines = [table(claims), *map(verdict_line, found), f"plot: {path}"]
    return {"courses": values, "claims": found, "plot": str(path)}, "\n".join(lines)
