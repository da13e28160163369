"""Calls of torch's own layers with what is added to their answers: plainly, or by the faster forms
of :mod:`..kernels` where that folder is there and they apply."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from torch import Tensor, nn


def _faster() -> ModuleType | None:
    there = find_spec("..kernels", __package__) is not None
    return import_module("..kernels.onednn", __package__) if there else None


FASTER = _faster()


def linear(layer: nn.Module, x: Tensor, plus: Tensor | None = None) -> Tensor:
    """layer(x) + plus for ``x`` [..., i] and ``plus`` [..., o]."""
    if FASTER is not None:
        return FASTER.linear(layer, x, plus)
    return layer(x) if plus is None else layer(x) + plus


def convolution(layer: nn.Module, h: Tensor, plus: Tensor | None = None) -> Tensor:
    """layer(h) + plus for ``h`` [n, c, h, w]."""
    if FASTER is not None:
        return FASTER.convolution(layer, h, plus)
    return layer(h) if plus is None else layer(h) + plus


def activation(function: nn.Module, h: Tensor) -> Tensor:
    """function(h); ``h`` is nobody else's and may be overwritten."""
    return function(h) if FASTER is None else FASTER.activation(function, h)


def plus_feed_forward(block: nn.Module, tokens: Tensor) -> Tensor:
    """tokens + ff(norm3(tokens)) of a transformer block; ``tokens`` [n, t, c] are nobody else's and
    may be overwritten."""
    if FASTER is not None:
        return FASTER.plus_feed_forward(block, tokens)
    return tokens + block.ff(block.norm3(tokens))
