"""The Video Sampler's strategy rolling."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.tasks.rolling import Rolling
from .strategy import Strategy

if TYPE_CHECKING:
    from ..host.interface import ModelFacts


def rolling_settings(facts: ModelFacts, own: Strategy) -> Rolling:
    """The settings for core's task; ValueError for models that rolling cannot sample."""
    if facts.begins_with_image:
        raise ValueError(
            "the model moves a start image, but rolling leaves the first frame behind: take the "
            "strategy prediction, or a model of another kind"
        )
    if facts.free_init is not None:
        raise ValueError(
            "FreeInit samples a whole video again, but rolling never has one: take FreeInit off "
            "the model, or another strategy"
        )
    return Rolling(
        window=own.window, lookahead=own.lookahead, eta=own.eta, reference=facts.reference
    )
