"""Inputs of nodes filled in with defaults, including those of dynamic combos."""

from __future__ import annotations

from typing import Any

from videoldm.core.graph import NodeSpec
from videoldm.core.graph.schema import nest_inputs
from videoldm.nodes import node_registry


def strategy(name: str = "single clip", **settings: Any) -> dict[str, Any]:
    """A strategy of the Video Sampler with all its settings under dotted names, as in API prompts.

    Settings that are not passed get their defaults; nested ones are passed as
    first_segment__first_frames and so on.
    """
    given = {f"strategy.{key.replace('__', '.')}": value for key, value in settings.items()}
    values = {"strategy": name, **given}
    for key, one in node_registry()["VideoLDM_VideoSampler"].live_inputs(values).items():
        if key.startswith("strategy") and one.initial() is not None:
            values.setdefault(key, one.initial())
    return values


def arguments(spec: NodeSpec, inputs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a node's execute: defaults filled in, dotted names nested."""
    live = spec.live_inputs(inputs)
    values = {name: one.initial() for name, one in live.items() if one.initial() is not None}
    return nest_inputs(spec, {**values, **inputs})
