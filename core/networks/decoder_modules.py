"""The modules of an image autoencoder's decoder, on the frames of a video.

They treat frames apart from each other and therefore take a few at a time. Where no gradients are
needed, features lie in channels-last memory, in which convolutions over space and over time are
fastest, and a module's answer takes the place of what it was made from.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .image_modules import residual_block
from .layer_calls import activation, convolution
from .layers.group_norms import group_norm

ELEMENTS = 2**22
"""Of the features that a module makes at a time: enough for full speed, and few enough to stay near
the processor, in memory that is used again instead of being asked for anew."""


def residual(block: nn.Module, h: Tensor) -> Tensor:
    """A residual block of the decoder."""
    return few_at_a_time(lambda part: residual_block(block, part, own=True), h)


def upsample(sampler: nn.Module, h: Tensor) -> Tensor:
    """Twice the size: the nearest position, then a convolution."""
    return few_at_a_time(
        lambda part: convolution(sampler.conv, F.interpolate(part, scale_factor=2.0)), h, growth=4
    )


def head(decoder: nn.Module, h: Tensor) -> Tensor:
    """The last norm and convolution, to pixels."""

    def pixels(part: Tensor) -> Tensor:
        z = activation(decoder.conv_act, group_norm(decoder.conv_norm_out, part, own=True))
        return decoder.conv_out(z)

    return few_at_a_time(pixels, h)


def few_at_a_time(module: Callable[[Tensor], Tensor], h: Tensor, *, growth: int = 1) -> Tensor:
    """module(h) for one that treats the frames of ``h`` [n, c, h, w] apart from each other, which
    may be overwritten. growth: the answer's positions per position."""
    parts = h.split(max(1, ELEMENTS // (growth * h[0].numel())))
    if len(parts) == 1:
        return module(h)
    if torch.is_grad_enabled():
        return torch.cat([module(part) for part in parts])
    out, at = None, 0
    for part in parts:
        made = module(part)
        if out is None:
            out = h if made.shape[1:] == h.shape[1:] else _room_for(made, len(h))
        out[at : at + len(part)] = made
        at += len(part)
    return out


def _room_for(made: Tensor, frames: int) -> Tensor:
    """Memory for so many frames, laid out as these are."""
    shape = (frames, *made.shape[1:])
    last = made.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.empty(shape, dtype=made.dtype, device=made.device, memory_format=layout)
