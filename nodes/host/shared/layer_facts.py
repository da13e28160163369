"""What a model's temporal layers tell about it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .setup_warnings import CoreRun, LayerFacts, core_sampler_warnings

if TYPE_CHECKING:
    from ....core.networks.injected_sets import InjectedSets


def layer_facts(sets: InjectedSets) -> LayerFacts:
    """What the warnings need to know about these sets. The task is that of the last set that names
    one, which the others adapt."""
    if not sets:
        return LayerFacts(present=False)
    families = (one.trained.family for one in sets.specs if one.trained.family)
    return LayerFacts(
        present=True,
        family=next(families, ""),
        task=sets.task,
        trained_frames=max(spec.trained.frames for spec in sets.specs),
        takes_context=sets.context_channels > 0,
    )


def warnings_of_core_sampler(
    sets: InjectedSets, frames: int, run: CoreRun = CoreRun(), *,  # noqa: B008 (frozen)
    begins_with_image: bool = False,
) -> list[str]:  # fmt: skip
    """Warnings for one of ComfyUI's own samplers that makes `frames` frames with these sets; sets
    that are switched off do not count. begins_with_image: see `LayerFacts`."""
    known = replace(layer_facts(sets.active), begins_with_image=begins_with_image)
    return core_sampler_warnings(known, frames, run)
