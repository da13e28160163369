"""Copies of modules that share what does not change."""

from __future__ import annotations

import copy

from torch import nn


def shared_clone(module: nn.Module) -> nn.Module:
    """A copy of the tree of modules over the very same parameters and buffers."""
    tensors = [*module.parameters(), *module.buffers()]
    return copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})
