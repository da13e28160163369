"""Conditions that act in a range of noise levels, where each frame has a level of its own.

ComfyUI compares such a range with the level of the first image of a batch. In a queue of rolling
denoising that would be the cleanest frame of a window.
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
"""ComfyUI's names in a condition, of the first and the last noise level of its range."""
NEVER: Range = (-1.0, inf)
"""A range that no level lies in."""


def at_levels(
    conds: Mapping[str, list[dict] | None], sigma: Tensor, size: tuple[int, int]
) -> dict[str, list[dict] | None]:
    """Conditions of frames (b t) of latents of `size` (h, w) at their noise levels [b t].

    A condition with a range gets a mask that is 1 for the frames in it, and is left out where no
    frame with noise is. (The edges of an area beside a mask are not softened by ComfyUI.)
    """
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
    """[(b t) h w] of a mask [n h w] that begins again behind its last picture, as ComfyUI's do."""
    if mask is None:
        mask = torch.ones(1, *size, device=acts.device)
    mask = mask[: len(acts)]
    return mask.repeat(len(acts) // len(mask), 1, 1) * acts[:, None, None].to(mask)


def ranges_of(conds: Mapping[str, list[dict] | None]) -> dict[Any, Range]:
    """ControlNets, those before them and their clones on other GPUs, with the ranges of noise
    levels that they have been readied with."""
    found = [one["control"] for cond in conds.values() for one in cond or () if one.get("control")]
    return {one: one.timestep_range for one in _all_of(found) if one.timestep_range is not None}


def set_ranges(ranges: Mapping[Any, Range], sigma: Tensor) -> None:
    """Switch ControlNets on or off for a window at noise levels [b t]: they answer for all of its
    frames, so that one level decides."""
    level = window_level(sigma)
    for control, (first, last) in ranges.items():
        switched = None if last <= level <= first else NEVER
        control.timestep_range = (first, last) if _alike(sigma) else switched


def _alike(sigma: Tensor) -> bool:
    """Whether ComfyUI's own comparison is right, and is left to it."""
    return bool((sigma == sigma[:1, :1]).all())


def _all_of(controls: Iterable[Any]) -> Iterator[Any]:
    for one in controls:
        while one is not None:
            yield one
            yield from getattr(one, "multigpu_clones", {}).values()
            one = one.previous_controlnet
