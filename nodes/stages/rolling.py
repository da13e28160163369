"""The Video Sampler's strategy rolling."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.tasks.rolling import Rolling
from .strategy import Strategy

if TYPE_CHECKING:
    from ..host.interface import ModelFacts


def rolling_settings(facts: ModelFacts, strategy: Strategy) -> Rolling:
    """The settings for core's task; ValueError for models that rolling cannot sample."""
    if facts.begins_with_image:
        raise ValueError(
            "the model animates a start image, but rolling leaves the first frame behind: use the "
            "strategy prediction, or another kind of model"
        )
    if facts.free_init is not None:
        raise ValueError(
            "FreeInit samples a whole video again, but rolling never has one: take FreeInit off "
            "the model, or another strategy"
        )
    return Rolling(
        window=strategy.window,
        lookahead=strategy.lookahead,
        eta=strategy.eta,
        reference=facts.reference,
    )
