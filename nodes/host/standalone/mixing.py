"""Arithmetic on CONDITIONINGs, as in ComfyUI's nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .host import host

POOLED = "pooled_output"


def zeroed(conditioning: Sequence) -> list:
    """The prompts with tokens and pooled text set to zero; their other entries stay."""
    return [
        [torch.zeros_like(tokens), more | _pooled(_zeros(more.get(POOLED)))]
        for tokens, more in conditioning
    ]


def _zeros(pooled: Tensor | None) -> Tensor | None:
    return None if pooled is None else torch.zeros_like(pooled)


def _pooled(pooled: Tensor | None) -> dict[str, Any]:
    return {} if pooled is None else {POOLED: pooled}


def joined(to: Sequence, source: Sequence) -> list:
    """Each of the prompts `to` with the tokens of the first of `source` appended."""
    tokens, _ = _first(source, "ConditioningConcat")
    return [[torch.cat([own, tokens.to(own)], dim=1), dict(more)] for own, more in to]


def mixed(to: Sequence, source: Sequence, share: float) -> list:
    """share * to + (1 - share) * source, token by token; a shorter `source` is zero-padded."""
    tokens, more = _first(source, "ConditioningAverage")
    return [_mixed(one, tokens, more.get(POOLED), share) for one in to]


def _mixed(one: Sequence, tokens: Tensor, pooled: Tensor | None, share: float) -> list:
    own, more = one
    tokens = tokens[:, : own.shape[1]].to(own)
    tokens = F.pad(tokens, (0, 0, 0, own.shape[1] - tokens.shape[1]))
    both = own * share + tokens * (1 - share)
    if pooled is None:
        return [both, dict(more)]
    own_pooled = more.get(POOLED, pooled)
    if own_pooled is not None:
        pooled = own_pooled * share + pooled * (1 - share)
    return [both, more | {POOLED: pooled}]


def _first(source: Sequence, node: str) -> Sequence:
    if not source:
        raise ValueError(f"{node} was given 0 prompts to take, at least 1 is needed")
    if len(source) > 1:
        host.warn(
            f"{node} takes the first of the {len(source)} prompts it was given, the others are "
            "not used"
        )
    return source[0]
