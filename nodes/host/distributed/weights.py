"""Serialises modules so that they compute the same, bit for bit, in other processes.

Matrix products choose their kernels by the alignment of memory within a cache line, and the kernels
differ in the last digits. Weights mapped from a file are aligned as in the file; copies of them get
the same alignment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain

import torch
from torch import Tensor, nn

CACHE_LINE = 64


def pack_module(module: nn.Module) -> tuple[bytes, dict[str, int]]:
    """A pickled module, with the offset of each of its CPU tensors within a cache line."""
    from ray import cloudpickle

    starts = {name: one.data_ptr() % CACHE_LINE for name, one in _on_cpu(module)}
    return cloudpickle.dumps(module), starts


def unpack_module(packed: tuple[bytes, Mapping[str, int]]) -> nn.Module:
    from ray import cloudpickle

    data, starts = packed
    module = cloudpickle.loads(data)
    for name, one in _on_cpu(module):
        if one.data_ptr() % CACHE_LINE != starts[name]:
            one.data = aligned_copy(one.data, starts[name])
    return module


def _on_cpu(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    found = chain(module.named_parameters(), module.named_buffers())
    return ((name, one) for name, one in found if one.device.type == "cpu" and one.numel())


def aligned_copy(x: Tensor, start: int) -> Tensor:
    """A copy of x, strides included, that begins `start` bytes after the start of a cache line."""
    extent = 1 + sum((n - 1) * step for n, step in zip(x.shape, x.stride(), strict=True))
    size = extent * x.element_size()
    room = torch.empty(size + CACHE_LINE, dtype=torch.uint8)
    first = (start - room.data_ptr()) % CACHE_LINE
    flat = room[first : first + size].view(x.dtype)
    return flat.as_strided(x.shape, x.stride(), flat.storage_offset()).copy_(x)
