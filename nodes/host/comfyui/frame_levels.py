"""Conditions that act in a range of noise levels, for frames with different levels.

ComfyUI compares the range with the level of the first image of a batch. In rolling denoising, that
would be the cleanest frame of the window.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import inf
from typing import Any

import torch
from torch import Tensor

from ....core.diffusion.guidance import window_level

Range = tuple[float, float]
START, END = "timestep_start", "timestep_end"
"""ComfyUI's keys in a condition for the first (highest) and last noise level of its range."""
NEVER: Range = (-1.0, inf)
"""A range that contains no level."""


def at_levels(
    conds: Mapping[str, list[dict] | None], sigma: Tensor, size: tuple[int, int]
) -> dict[str, list[dict] | None]:
    """Conditions of frames (b t) of latents of `size` (h, w) at the noise levels sigma [b t].

    A condition with a range gets a mask that is 1 for the frames within it, and is dropped if no
    noised frame is. (ComfyUI does not soften the edges of an area if there is a mask.)
    """
    ranged = any(START in one or END in one for cond in conds.values() for one in cond or ())
    if not ranged or _alike(sigma):
        return dict(conds)
    return {name: cond and [
        found for one in cond if (found := _at_levels(one, sigma, size)) is not None
    ] for name, cond in conds.items()}  # fmt: skip


def _at_levels(one: dict, sigma: Tensor, size: tuple[int, int]) -> dict | None:
    if START not in one and END not in one:
        return one
    acts = (sigma <= one.get(START, inf)) & (sigma >= one.get(END, 0.0))
    if not (acts & (sigma > 0)).any():
        return None
    rest = {name: value for name, value in one.items() if name not in (START, END)}
    return rest if acts.all() else rest | {"mask": _masked(one.get("mask"), acts.flatten(), size)}


def _masked(mask: Tensor | None, acts: Tensor, size: tuple[int, int]) -> Tensor:
    """A mask [(b t) h w] from one [n h w], which repeats as in ComfyUI, set to 0 where a frame does
    not act."""
    if mask is None:
        mask = torch.ones(1, *size, device=acts.device)
    mask = mask[: len(acts)]
    return mask.repeat(len(acts) // len(mask), 1, 1) * acts[:, None, None].to(mask)


def ranges_of(conds: Mapping[str, list[dict] | None]) -> dict[Any, Range]:
    """The noise ranges of all ControlNets, those before them and clones on other GPUs, as they were
    prepared for sampling."""
    found = [one["control"] for cond in conds.values() for one in cond or () if one.get("control")]
    return {one: one.timestep_range for one in _all_of(found) if one.timestep_range is not None}


def set_ranges(ranges: Mapping[Any, Range], sigma: Tensor) -> None:
    """Switch ControlNets on or off for a window at the noise levels sigma [b t]. A ControlNet is
    evaluated for all frames at once, so one level decides."""
    if not ranges:
        return  # Without a look at the levels, for which a GPU would have to be waited for.
    alike, level = _alike(sigma), window_level(sigma)
    for control, (first, last) in ranges.items():
        switched = None if last <= level <= first else NEVER
        control.timestep_range = (first, last) if alike else switched


def _alike(sigma: Tensor) -> bool:
    """Whether all levels are equal; ComfyUI's own comparison is then right."""
    return bool((sigma == sigma[:1, :1]).all())


def _all_of(controls: Iterable[Any]) -> Iterator[Any]:
    for one in controls:
        while one is not None:
            yield one
            yield from getattr(one, "multigpu_clones", {}).values()
            one = one.previous_controlnet
