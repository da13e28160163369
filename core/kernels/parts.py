"""Layers that take a few of their tokens at a time, where those do not depend on each other.

What a layer makes on its way then stays near the processor, in memory that is used again: large
tensors are handed back to the system when they are freed, and every page that is asked for anew is
cleared first, which takes longer than a narrow layer's own work.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

ROWS = 512
"""Tokens of a part for every thread: enough for full speed, few enough for the eightfold width
inside of feed-forwards."""


def few_at_a_time(
    layer: Callable[[Tensor], Tensor],
    tokens: Tensor,
    axis: int | None,
    *modules: nn.Module,
    own: bool = False,
) -> Tensor:
    """layer(tokens), whose answer is like ``tokens`` [n, t, c], for parts along `axis`, or for any
    tokens where it is None; all at once where gradients are needed, off the processor, or where
    something watches one of the ``modules`` that the layer calls. own: the answer takes the place
    of the tokens."""
    watched = any(is_watched(part) for module in modules for part in module.modules())
    if torch.is_grad_enabled() or tokens.device.type != "cpu" or watched:
        return layer(tokens)
    tokens = tokens.contiguous()
    out = tokens if own else torch.empty_like(tokens)
    here, there = (x.flatten(0, 1) if axis is None else x for x in (tokens, out))
    axis = axis or 0
    rows = here[..., 0].numel() // here.shape[axis]
    size = max(1, ROWS * torch.get_num_threads() // rows)
    for part, room in zip(here.split(size, axis), there.split(size, axis), strict=True):
        room.copy_(layer(part.contiguous()))
    return out


def is_watched(module: nn.Module) -> bool:
    """Whether hooks see what the module itself is called with."""
    return bool(module._forward_hooks or module._forward_pre_hooks)
