"""Applies layers to a few tokens at a time, where tokens do not depend on each other.

Intermediate results then stay in cache, in memory that is reused. Large tensors go back to the
system when freed, and the system clears each page before handing it out again, which takes longer
than the arithmetic of a narrow layer.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

ROWS = 512
"""Tokens per part and thread: enough for full speed, and few enough that a feed-forward's inner
width (eight times the token's) still fits the cache."""


def few_at_a_time(
    layer: Callable[[Tensor], Tensor],
    tokens: Tensor,
    axis: int | None,
    *modules: nn.Module,
    own: bool = False,
) -> Tensor:
    """layer(tokens) for ``tokens`` [n, t, c], computed part by part along `axis` (None: over all
    tokens). The layer must keep the shape. It is called once for everything if gradients are
    enabled, off the CPU, or if one of the ``modules`` that it calls has hooks. own: overwrite the
    tokens with the result."""
    watched = any(is_watched(part) for module in modules for part in module.modules())
    if torch.is_grad_enabled() or tokens.device.type != "cpu" or watched:
        return layer(tokens)
    tokens = tokens.contiguous()
    out = tokens if own else torch.empty_like(tokens)
    source, target = (x.flatten(0, 1) if axis is None else x for x in (tokens, out))
    axis = axis or 0
    rows = source[..., 0].numel() // source.shape[axis]
    size = max(1, ROWS * torch.get_num_threads() // rows)
    for part, out_part in zip(source.split(size, axis), target.split(size, axis), strict=True):
        out_part.copy_(layer(part.contiguous()))
    return out


def is_watched(module: nn.Module) -> bool:
    """Whether the module itself has forward hooks."""
    return bool(module._forward_hooks or module._forward_pre_hooks)
