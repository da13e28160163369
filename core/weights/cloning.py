"""Copies of modules that share their tensors."""

from __future__ import annotations

import copy

from torch import nn


def shared_clone(module: nn.Module) -> nn.Module:
    """A deep copy of a module, except that parameters and buffers are the same tensor objects."""
    tensors = [*module.parameters(), *module.buffers()]
    return copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})
