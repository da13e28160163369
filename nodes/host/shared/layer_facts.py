"""Facts about a model from its temporal layers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .setup_warnings import CoreRun, LayersKnown, core_sampler_warnings

if TYPE_CHECKING:
    from ....core.networks.injected_sets import InjectedSets


def layers_known(sets: InjectedSets) -> LayersKnown:
    """The last set that says what it was trained for decides the task: others adapt it."""
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
    """What looks wrong when one of ComfyUI's own samplers makes so many frames with these sets:
    those that are switched off are not in the model. begins_with_image: of the whole model."""
    known = replace(layers_known(sets.active), begins_with_image=begins_with_image)
    return core_sampler_warnings(known, frames, run)
