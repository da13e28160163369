"""Digests of values: equal values have equal digests, in every process."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

DIGITS = 32
PLAIN = (type(None), bool, int, float, str, bytes, torch.dtype, torch.device)


class NoDigest(TypeError):
    """A value cannot be identified by its contents."""


def digest(*values: Any) -> str:
    """The digest, DIGITS hexadecimal digits, of plain values, tensors, and sequences, mappings and
    dataclasses of them. Raises NoDigest for anything else."""
    hasher = hashlib.blake2b(digest_size=DIGITS // 2)
    for value in values:
        _feed(hasher, value)
    return hasher.hexdigest()


def name_of(function: Callable) -> str:
    """The name of a function, without its module, whose name depends on where the package is. What
    it closes over, such as settings, does not enter."""
    return getattr(function, "__qualname__", type(function).__qualname__)


def _feed(hasher: Any, value: Any) -> None:
    if isinstance(value, Tensor):
        _feed_tensor(hasher, value)
    elif isinstance(value, PLAIN) or isinstance(value, range):
        _mark(hasher, type(value).__name__, repr(value))
    elif is_dataclass(value) and not isinstance(value, type):
        _mark(hasher, "object", type(value).__qualname__)
        _feed(hasher, {one.name: getattr(value, one.name) for one in fields(value)})
    elif isinstance(value, Mapping):
        _mark(hasher, "mapping", str(len(value)))
        for key in sorted(value, key=str):
            _feed(hasher, key)
            _feed(hasher, value[key])
    elif isinstance(value, (list, tuple)):
        _mark(hasher, "sequence", str(len(value)))
        for one in value:
            _feed(hasher, one)
    else:
        raise NoDigest(f"a {type(value).__qualname__} has no digest")


def _feed_tensor(hasher: Any, value: Tensor) -> None:
    plain = value.detach().to("cpu").contiguous()
    _mark(hasher, "tensor", f"{plain.dtype} {list(plain.shape)}")
    if plain.numel():
        hasher.update(plain.reshape(-1).view(torch.uint8).numpy())


def _mark(hasher: Any, kind: str, text: str) -> None:
    """Kind and length go first, so that different sequences of values never hash the same bytes."""
    data = text.encode()
    hasher.update(f"{kind} {len(data)} ".encode())
    hasher.update(data)
