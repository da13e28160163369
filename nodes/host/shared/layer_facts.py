"""What the temporal layers in a model say of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .setup_warnings import LayersKnown

if TYPE_CHECKING:
    from ....core.temporal_layers_spec import TemporalLayersSpec


def layer_facts(sets: Sequence[TemporalLayersSpec]) -> dict[str, Any]:
    """The fields of `ModelFacts` that follow from its sets of layers, in the order they act."""
    known = layers_known(sets)
    return {
        "layers": known,
        "takes_context": bool(known.takes_context),
        "trained_frames": known.trained_frames or 1,
        "family": next((one.trained.family for one in sets if one.trained.family), ""),
    }


def layers_known(sets: Sequence[TemporalLayersSpec]) -> LayersKnown:
    """The last set that says what it was trained for decides the task: others adapt it."""
    if not sets:
        return LayersKnown(present=False)
    return LayersKnown(
        present=True,
        task=next((one.trained.task for one in reversed(sets) if one.trained.task), ""),
        trained_frames=max(one.trained.frames for one in sets),
        takes_context=any(one.context is not None for one in sets),
    )
