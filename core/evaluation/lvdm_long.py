"""What a long video of the embedded LVDM network costs, at its end and as a whole."""

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
    """Processor time per frame and peak memory over 1,000 frames, with few steps."""
    return [_time(run), _memory()]


def _time(run: Run) -> Figure:
    """Processor time of every chunk, the least of some runs that all make the same video: what
    other programs on the machine take from the processor's caches and from a core that they share
    passes, but what a chunk costs because of its place does not."""
    length, model = Length(frames=LONG, steps=STEPS, videos=1), EmbeddedLvdm()
    runs = [model.sampled(VARIANTS[0], length, run.seed) for _ in range(RUNS)]
    start, end = ends(torch.stack([one.seconds for one in runs]).amin(0) / runs[0].sizes)
    name = f"LVDM, {LONG} frames: time per frame at the end / at the start"
    detail = {"start s": start, "end s": end}
    return at_most(GROUP, name, end / start, 1.05, "", detail)


def ends(seconds: Tensor) -> tuple[float, float]:
    """Medians of the seconds per latent frame [chunks] in the first and in the last quarter,
    without the first chunk, of which there are none like it."""
    count = max(1, len(seconds) // 4)
    return float(seconds[1 : count + 1].median()), float(seconds[-count:].median())


def _memory() -> Figure:
    """Of the workflow lvdm_long_video, in a process of its own for each length."""
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
