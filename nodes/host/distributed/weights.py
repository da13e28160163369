"""Modules on their way to other processes.

Libraries of matrix products take other paths through memory that begins elsewhere within a line of
the cache, with other last digits. Weights that were mapped from a file begin where the file says;
a copy of them is laid where they are, so that it computes the same, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain

import torch
from torch import Tensor, nn

LINE = 64


def pack_module(module: nn.Module) -> tuple[bytes, dict[str, int]]:
    """A module as bytes, with where in a line of the cache each tensor of it begins."""
    from ray import cloudpickle

    starts = {name: one.data_ptr() % LINE for name, one in _on_cpu(module)}
    return cloudpickle.dumps(module), starts


def unpack_module(packed: tuple[bytes, Mapping[str, int]]) -> nn.Module:
    from ray import cloudpickle

    data, starts = packed
    module = cloudpickle.loads(data)
    for name, one in _on_cpu(module):
        if one.data_ptr() % LINE != starts[name]:
            one.data = laid_at(one.data, starts[name])
    return module


def _on_cpu(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    found = chain(module.named_parameters(), module.named_buffers())
    return ((name, one) for name, one in found if one.device.type == "cpu" and one.numel())


def laid_at(x: Tensor, start: int) -> Tensor:
    """A copy of x, with its strides, that begins `start` bytes behind the beginning of a line."""
    extent = 1 + sum((n - 1) * step for n, step in zip(x.shape, x.stride(), strict=True))
    size = extent * x.element_size()
    room = torch.empty(size + LINE, dtype=torch.uint8)
    first = (start - room.data_ptr()) % LINE
    flat = room[first : first + size].view(x.dtype)
    return flat.as_strided(x.shape, x.stride(), flat.storage_offset()).copy_(x)
