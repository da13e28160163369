"""Whether time per frame and memory of the embedded LVDM network grow with the video's length."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .figures import Figure, at_most
from .lvdm_videos import VARIANTS, EmbeddedLvdm, Length
from .programs import LENGTH, UNKNOWN_MEMORY, run_workflow, workflow

if TYPE_CHECKING:
    from .run import Run

GROUP = "lvdm_long"
SHORT, LONG, STEPS, RUNS = 100, 1000, 2, 3
FEW_STEPS = f"VideoLDM_VideoSampler.steps={STEPS}"


def lvdm_long(run: Run) -> list[Figure]:
    """Growth of processor time per frame and of peak memory over 1,000 frames, with few steps."""
    return [_time(run), _memory()]


def _time(run: Run) -> Figure:
    """Time per frame at the end relative to the start. Each chunk counts with its least processor
    time over several runs of the same video, which removes the effect of other programs on shared
    caches and cores but not what depends on the chunk's position."""
    length, model = Length(frames=LONG, steps=STEPS, videos=1), EmbeddedLvdm()
    runs = [model.sampled(VARIANTS[0], length, run.seed) for _ in range(RUNS)]
    start, end = ends(torch.stack([one.seconds for one in runs]).amin(0) / runs[0].sizes)
    name = f"LVDM, {LONG} frames: time per frame at the end / at the start"
    detail = {"start s": start, "end s": end}
    return at_most(GROUP, name, end / start, 1.05, "", detail)


def ends(seconds: Tensor) -> tuple[float, float]:
    """Medians of the seconds per latent frame [chunks] over the first and the last quarter, without
    the first chunk, which is unlike the others."""
    count = max(1, len(seconds) // 4)
    return float(seconds[1 : count + 1].median()), float(seconds[-count:].median())


def _memory() -> Figure:
    """Peak memory of the workflow `lvdm_long_video`, in a separate process for each length."""
    name = f"LVDM: peak memory at {LONG} frames / at {SHORT}"
    path = workflow("lvdm_long_video")
    if path is None:
        why = {"skipped": "no workflow lvdm_long_video"}
        return at_most(GROUP, name, None, 1.1, "", why)
    short, long = (
        run_workflow(path, [LENGTH.format(frames=frames), FEW_STEPS]).peak_rss
        for frames in (SHORT, LONG)
    )
    if not short:
        return at_most(GROUP, name, None, 1.1, "", UNKNOWN_MEMORY)
    detail = {f"{SHORT} frames GB": short / 1e9, f"{LONG} frames GB": long / 1e9}
    return at_most(GROUP, name, long / short, 1.1, "", detail)
