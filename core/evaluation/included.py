"""The figures of the embedded family, on seeds and videos that training never saw.

Each function measures one group of figures; `evaluate` runs them. Sampling uses the settings of the
shipped workflows and one fixed seed per video, without selection.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from ..families.embedded import worlds
from ..tasks.interpolation import FACTOR, linear_blend
from ..tasks.keyframe_residual import with_keyframe_residual
from ..tasks.optical_flow import estimated_flow
from .figures import Figure, as_json, at_least, at_most, table
from .lvdm_long import lvdm_long
from .metrics import warping_error
from .models import Models
from .programs import demo, long_video
from .roads import driving
from .rules import matches, miscounted, recognise
from .run import (
    BATCH,
    FRAMES,
    IMAGE,
    INTERPOLATION,
    LONG_CONTEXT,
    LONG_FRAMES,
    LONG_VIDEO,
    SIDE,
    TEXT_TO_VIDEO,
    WORLDS,
    Counts,
    Run,
    clips,
    mean,
    mean_psnr,
)
from .unseen import FIRST_SEED, batches, rendered_videos, unseen_prompts, unseen_shapes
from .upsampled import decoder, upsampler, upsampler_real

__all__ = ["GROUPS", "Counts", "Figure", "as_json", "evaluate", "table"]

NAMES = {"color": "colour", "shape": "shape", "motion": "motion"}


# --------------------------------------------------------------------------------------------------
# Text to video.


def shapes(run: Run) -> list[Figure]:
    """Colour, shape, motion and number of objects for unseen prompts, recognised by rules."""
    scenes = unseen_shapes(run.counts.prompts, run.seed)
    videos: list[np.ndarray] = []
    for start, part in batches(scenes, BATCH):
        prompts = [worlds.caption(scene) for scene in part]
        latents = clips(run, run.models.text_to_video, prompts, start, TEXT_TO_VIDEO)
        videos += list(run.models.decoded(latents).numpy())
    rendered = [worlds.render(scene, times=np.arange(FRAMES), size=SIDE) for scene in scenes]
    right, ceiling = (
        [_right(video, scene) for video, scene in zip(shown, scenes, strict=True)]
        for shown in (videos, rendered)
    )
    return [
        _rule_figure(name, target, right, ceiling)
        for name, target in (("color", 99), ("shape", 97), ("motion", 97))
    ] + [_count_figure(videos, rendered, scenes)]


def _right(video: np.ndarray, scene: worlds.ShapesScene) -> dict[str, float]:
    wanted = [(thing.color, thing.shape, thing.motion) for thing in scene.objects]
    return matches(recognise(video), wanted)


def _rule_figure(
    name: str, target: float, right: list[dict[str, float]], rendered: list[dict[str, float]]
) -> Figure:
    rates = [100 * one[name] for one in right]
    detail = {
        "prompts": len(rates),
        "one object": mean(rates[::2]),
        "two objects": mean(rates[1::2]),
        "rendered videos": mean(100 * one[name] for one in rendered),
    }
    return at_least("shapes", f"shapes: {NAMES[name]} recognised", mean(rates), target, "%", detail)


def _count_figure(
    videos: list[np.ndarray], rendered: list[np.ndarray], scenes: list[worlds.ShapesScene]
) -> Figure:
    made, ceiling = (
        np.array([miscounted(one, len(scene.objects))
                  for one, scene in zip(shown, scenes, strict=True)])
        for shown in (videos, rendered)
    )  # fmt: skip
    surplus, missing = (100 * float(wrong) for wrong in made.mean(axis=0))
    detail = {
        "duplicated": surplus,
        "missing": missing,
        "one object": 100 * float(made[::2].any(axis=1).mean()),
        "two objects": 100 * float(made[1::2].any(axis=1).mean()),
        "rendered videos": 100 * float(ceiling.any(axis=1).mean()),
    }
    value = 100 * float(made.any(axis=1).mean())
    return at_most("shapes", "shapes: objects duplicated or missing", value, 1, "%", detail)


def long_shapes(run: Run) -> list[Figure]:
    """Colour and shape at the end of videos of 241 frames, as in the workflow `long_video`.

    Only every fourth frame is predicted there, the others are interpolated: measured are the last
    16 predicted ones.
    """
    scenes = unseen_shapes(run.counts.long, run.seed)
    ends: list[dict[str, float]] = []
    starts: list[dict[str, float]] = []
    for start, part in batches(scenes, BATCH):
        latents = run.models.predicted(
            run.models.text([worlds.caption(scene) for scene in part]), LONG_VIDEO,
            run.seed + start, frames=(LONG_FRAMES - 1) // FACTOR + 1, side=SIDE,
            context=LONG_CONTEXT,
        )  # fmt: skip
        for rates, shown in ((starts, latents[:, :FRAMES]), (ends, latents[:, -FRAMES:])):
            videos = run.models.decoded(shown).numpy()
            rates += [_right(video, scene) for video, scene in zip(videos, part, strict=True)]
    at_end, at_start = (
        {name: mean(100 * one[name] for one in rates) for name in ("color", "shape")}
        for rates in (ends, starts)
    )
    detail = {"prompts": len(scenes), "colour at the end": at_end["color"],
              "shape at the start": at_start["shape"],
              "colour at the start": at_start["color"]}  # fmt: skip
    name = f"long_video: shapes recognised at the end of {LONG_FRAMES} frames"
    return [at_least("long_shapes", name, at_end["shape"], 90, "%", detail)]


def alignment(run: Run) -> list[Figure]:
    """Warping error of the video model relative to the image model on each frame, same prompts.

    The flow is estimated, as samples have no true one. Both are decoded frame by frame, so that the
    ratio measures the temporal layers alone.
    """
    ours, alone, detail = [], [], {}
    for world in WORLDS:
        prompts = unseen_prompts(world, run.counts.aligned, run.seed)
        pair = []
        video, image = (run.models.text_to_video, TEXT_TO_VIDEO), (run.models.image.model, IMAGE)
        for model, settings in (video, image):
            parts = [
                clips(run, model, part, start, settings) for start, part in batches(prompts, BATCH)
            ]
            videos = run.models.decoded(torch.cat(parts), per_frame=True)
            pair.append(warping_error(videos, estimated_flow(videos)))
        ours.append(pair[0])
        alone.append(pair[1])
        real = rendered_videos(world, run.counts.aligned, run.seed, frames=FRAMES)
        detail |= {f"{world} video": pair[0], f"{world} frames": pair[1],
                   f"{world} rendered": warping_error(real, estimated_flow(real))}  # fmt: skip
    name = "warping error: video model / image model per frame"
    return [at_most("alignment", name, mean(ours) / mean(alone), 0.2, "", detail)]


# --------------------------------------------------------------------------------------------------
# Interpolation.


def interpolation(run: Run) -> list[Figure]:
    """PSNR of interpolated frames relative to linear blending of the true key frames.

    One pass: 61 frames, 4 to a base frame. Two passes, in the details: 65 frames, 16 to a base
    frame. No prompt. The key frames' residual is added back as in the workflow `interpolate_video`,
    except with joint layers for all tasks, which are sampled plainly.
    """
    gains, detail = [], {}
    for passes, frames in ((1, 61), (2, 65)):
        for world in WORLDS:
            ours, blend, ceiling = _interpolated(run, world, passes, frames)
            name = world if passes == 1 else f"{world} twice"
            detail |= {f"{name} ours": ours, f"{name} blend": blend, f"{name} coded": ceiling}
            gains += [ours - blend] if passes == 1 else []
    name = "interpolation: PSNR over linear blending"
    return [at_least("interpolation", name, mean(gains), 3, "dB", detail)]


def _interpolated(run: Run, world: str, passes: int, frames: int) -> tuple[float, ...]:
    """PSNR over the new frames: ours, linear blending, the truth encoded and decoded."""
    factor = 4**passes
    truth = rendered_videos(
        world, run.counts.interpolated, run.seed, frames=frames, rate=1 / factor, size=SIDE
    )
    keys = truth[:, ::factor]
    text = run.models.text([""]).expand(len(truth), -1, -1)
    latents = run.models.interpolated(
        run.models.encoded(keys), text, INTERPOLATION, run.seed, passes=passes
    )
    coded = run.models.decoded(run.models.encoded(truth))
    new = [t for t in range(frames) if t % factor]
    decoded = run.models.decoded(latents)
    ours = decoded
    if not run.models.joint:
        ours = torch.cat(list(with_keyframe_residual([decoded], keys, factor)), dim=1)
    versions = ours, linear_blend(keys, factor), coded
    return tuple(mean_psnr(video[:, new], truth[:, new]) for video in versions)


# --------------------------------------------------------------------------------------------------
# All groups.


GROUPS: dict[str, Callable[[Run], list[Figure]]] = {
    "shapes": shapes,
    "driving": driving,
    "alignment": alignment,
    "interpolation": interpolation,
    "upsampler": upsampler,
    "upsampler_real": upsampler_real,
    "decoder": decoder,
    "long_video": long_video,
    "long_shapes": long_shapes,
    "lvdm_long": lvdm_long,
    "demo": demo,
}


def evaluate(
    report: Callable[[str], object] = print,
    *,
    only: Sequence[str] | None = None,
    device: torch.device | str = "cpu",
    seed0: int = FIRST_SEED,
    counts: Counts | None = None,
    dtype: torch.dtype = torch.float32,
) -> list[Figure]:
    """Measure the groups in `only` (all of `GROUPS` by default), reporting each when it is done.

    Raises ValueError for an unknown group, and the errors of loading missing weights.
    """
    unknown = [name for name in only or () if name not in GROUPS]
    if unknown:
        raise ValueError(f"There is no figure {unknown[0]!r}; known are {', '.join(GROUPS)}.")
    run = Run(models=Models(device, dtype), seed=seed0, counts=counts or Counts())
    figures: list[Figure] = []
    for name in only or GROUPS:
        started = time.perf_counter()
        made = GROUPS[name](run)
        figures += made
        for one in made:
            report(one.line())
        report(f"{name} took {time.perf_counter() - started:.0f} s")
    return figures
