"""Calls of torch's layers with an addend: as written here, or by the faster forms in
:mod:`..kernels` if that folder exists and they apply."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import torch.nn.functional as F
from diffusers.models.attention import FeedForward
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
    """function(h); ``h`` may be overwritten."""
    return function(h) if FASTER is None else FASTER.activation(function, h)


def gated(first: nn.Module, last: nn.Module, x: Tensor, plus: Tensor | None = None) -> Tensor:
    """A feed-forward on ``x`` [..., c], plus ``plus`` [..., c]: value times the exact GELU of the
    gate (GEGLU, Shazeer 2020), both computed by ``first``."""
    if FASTER is not None:
        return FASTER.gated(first, last, x, plus)
    value, gate = first(x).chunk(2, dim=-1)
    return linear(last, value * F.gelu(gate), plus)


def few_at_a_time(
    layer: Callable[[Tensor], Tensor],
    tokens: Tensor,
    axis: int | None,
    *modules: nn.Module,
    inplace: bool = False,
) -> Tensor:
    """layer(tokens), for a layer that uses ``modules`` and maps ``tokens`` [n, t, c] to the same
    shape, treating entries along `axis` independently (None: every token). inplace: the tokens may
    be overwritten."""
    if FASTER is None:
        return layer(tokens)
    return FASTER.few_at_a_time(layer, tokens, axis, *modules, own=inplace)


def plus_feed_forward(norm: nn.Module, module: nn.Module, tokens: Tensor) -> Tensor:
    """tokens + module(norm(tokens)) for a feed-forward of diffusers, or for one of this pack, which
    takes the addend as an argument; ``tokens`` [n, t, c] may be overwritten."""
    if FASTER is not None:
        return FASTER.plus_feed_forward(norm, module, tokens)
    if isinstance(module, FeedForward):
        return tokens + module(norm(tokens))
    return module(norm(tokens), tokens)
