"""The modules of an image autoencoder's decoder, on the frames of a video.

Frames are independent of each other here, so a few are processed at a time. Without gradients,
features are in channels-last memory, in which convolutions over space and over time are fastest,
and the output of a module overwrites its input.
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
"""Numbers of features that a module computes at a time: enough for full speed, and few enough to
stay in the cache, in memory that is reused instead of being requested anew."""


def residual(block: nn.Module, h: Tensor) -> Tensor:
    """A residual block of the decoder."""
    return few_at_a_time(lambda part: residual_block(block, part, inplace=True), h)


def upsample(sampler: nn.Module, h: Tensor) -> Tensor:
    """Twice the size by nearest neighbour, then a convolution."""
    return few_at_a_time(
        lambda part: convolution(sampler.conv, F.interpolate(part, scale_factor=2.0)), h, growth=4
    )


def head(decoder: nn.Module, h: Tensor) -> Tensor:
    """The last norm and convolution, to pixels."""

    def pixels(part: Tensor) -> Tensor:
        z = activation(decoder.conv_act, group_norm(decoder.conv_norm_out, part, inplace=True))
        return decoder.conv_out(z)

    return few_at_a_time(pixels, h)


def few_at_a_time(module: Callable[[Tensor], Tensor], h: Tensor, *, growth: int = 1) -> Tensor:
    """module(h), a few of the frames ``h`` [n, c, h, w] at a time, for a module that treats them
    independently; ``h`` may be overwritten. growth: output positions per input position."""
    parts = h.split(max(1, ELEMENTS // (growth * h[0].numel())))
    if len(parts) == 1:
        return module(h)
    if torch.is_grad_enabled():
        return torch.cat([module(part) for part in parts])
    out, at = None, 0
    for part in parts:
        made = module(part)
        if out is None:
            out = h if made.shape[1:] == h.shape[1:] else _buffer_for(made, len(h))
        out[at : at + len(part)] = made
        at += len(part)
    return out


def _buffer_for(made: Tensor, frames: int) -> Tensor:
    """Uninitialised memory for so many frames, with the memory format of `made`."""
    shape = (frames, *made.shape[1:])
    last = made.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.empty(shape, dtype=made.dtype, device=made.device, memory_format=layout)
