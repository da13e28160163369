"""What a model's temporal layers tell about it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .setup_warnings import CoreRun, LayersKnown, core_sampler_warnings

if TYPE_CHECKING:
    from ....core.networks.injected_sets import InjectedSets


def layers_known(sets: InjectedSets) -> LayersKnown:
    """What the warnings need to know about these sets. The task is that of the last set that names
    one, which the others adapt."""
    if not sets:
        return LayersKnown(present=False)
    families = (one.trained.family for one in sets.specs if one.trained.family)
    return LayersKnown(
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
    that are switched off do not count. begins_with_image: see `LayersKnown`."""
    known = replace(layers_known(sets.active), begins_with_image=begins_with_image)
    return core_sampler_warnings(known, frames, run)
