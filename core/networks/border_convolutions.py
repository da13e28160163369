"""3D convolutions of videos [b c t h w] with replicated borders.

Without gradients, CPUs compute a few frames at a time: the input of a convolution is normalised and
padded in a small buffer that stays in the cache and is reused, instead of in copies of the whole
video, for which every layer would have to request memory pages anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ELEMENTS = 2**22
"""Numbers that a convolution reads or writes at a time on a CPU."""

Prepare = Callable[[Tensor, Tensor], object]
"""prepare(frames, buffer): write the processed frames into buffer, which has their shape."""

Part = tuple[slice, Tensor]
"""Some frames of a video: their slice, and the frames [b c n h w]."""


class Buffers:
    """Channels-last buffers for videos, which layers use one after another."""

    def __init__(self) -> None:
        self.buffers: dict[tuple[str, tuple[int, ...]], Tensor] = {}

    def __call__(self, name: str, shape: Sequence[int], like: Tensor) -> Tensor:
        """The buffer of this name and shape [b c t h w], the same in every call."""
        key = (name, tuple(shape))
        if key not in self.buffers:
            self.buffers[key] = buffer_for(shape, like)
        return self.buffers[key]


def buffer_for(shape: Sequence[int], like: Tensor) -> Tensor:
    """Uninitialised memory [b c t h w], channels-last unless gradients are needed."""
    grad = torch.is_grad_enabled()
    layout = torch.contiguous_format if grad else torch.channels_last_3d
    return torch.empty(tuple(shape), dtype=like.dtype, device=like.device, memory_format=layout)


def convolved(
    conv: nn.Module,
    h: Tensor,
    pads: Sequence[int],
    prepare: Prepare | None = None,
    buffers: Buffers | None = None,
) -> Iterator[Part]:
    """A 3D convolution of the video ``h`` [b c t h w] with replicated borders, in parts.

    pads: as for F.pad. prepare: applied to ``h`` before, not where gradients are needed. buffers:
    for the input of the convolution.
    """
    if torch.is_grad_enabled():
        made = conv(F.pad(h, list(pads), mode="replicate"))
        yield slice(0, made.shape[2]), made
        return
    before, after = pads[::2][::-1], pads[1::2][::-1]
    padded = [sum(sizes) for sizes in zip(before, h.shape[2:], after, strict=True)]
    kernel, stride = conv.kernel_size[0], conv.stride[0]
    count, few = _counts(conv, h, padded)
    shape = (*h.shape[:2], (few - 1) * stride + kernel, *padded[1:])
    window = (buffers or Buffers())("window", shape, h)
    kept = 0
    for start in range(0, count, few):
        stop = min(start + few, count)
        length = (stop - start - 1) * stride + kernel
        first = start * stride + kept - before[0]
        _fill(window[:, :, kept:length], h, (first, *before[1:]), prepare or _copy)
        yield slice(start, stop), conv(window[:, :, :length])
        # Frames that the next part reads again; copied one by one, as they may overlap.
        kept = max(0, kernel - stride)
        for i in range(kept):
            window[:, :, i] = window[:, :, few * stride + i]


def gathered(parts: Iterable[Part], frames: int, buffer: Tensor | None = None) -> Tensor:
    """The video of so many frames that the parts make up, written into `buffer` if it is given."""
    for at, made in parts:
        if made.shape[2] == frames:
            return made
        if buffer is None:
            buffer = buffer_for((*made.shape[:2], frames, *made.shape[3:]), made)
        buffer[:, :, at] = made
    return buffer


def _counts(conv: nn.Module, h: Tensor, padded: Sequence[int]) -> tuple[int, int]:
    """Number of output frames for that padded input size, and how many to compute at a time."""
    count, *sides = (
        (size - kernel) // stride + 1
        for size, kernel, stride in zip(padded, conv.kernel_size, conv.stride, strict=True)
    )
    if h.device.type != "cpu":
        return count, count
    widest = max(conv.in_channels * math.prod(h.shape[3:]), conv.out_channels * math.prod(sides))
    return count, min(count, max(1, ELEMENTS // (len(h) * widest)))


def _fill(buffer: Tensor, h: Tensor, corner: Sequence[int], prepare: Prepare) -> None:
    """Write the frames of a video from ``corner[0]`` on into buffer [b c n H W], at the row and
    column of the corner; frames beyond its ends and the border around it are replicated."""
    first, last = corner[0], h.shape[2] - 1
    start, stop = (min(max(at, 0), last) for at in (first, first + buffer.shape[2] - 1))
    places = (max(0, -first), *corner[1:])
    sizes = (stop - start + 1, *h.shape[3:])
    inner = buffer
    for axis, (place, size) in enumerate(zip(places, sizes, strict=True), start=2):
        inner = inner.narrow(axis, place, size)
    prepare(h[:, :, start : stop + 1], inner)
    # Columns first, so that rows include their corners, and frames their whole border.
    for axis, place, size in reversed(list(zip((2, 3, 4), places, sizes, strict=True))):
        _repeat_edges(buffer, axis, place, size)


def _repeat_edges(buffer: Tensor, axis: int, place: int, size: int) -> None:
    """Replicate what buffer holds at place .. place + size - 1 of an axis to both sides of it."""
    end = place + size
    for start, length, source in ((0, place, place), (end, buffer.shape[axis] - end, end - 1)):
        if length:
            border = buffer.narrow(axis, start, length)
            border.copy_(buffer.narrow(axis, source, 1).expand_as(border))


def _copy(frames: Tensor, buffer: Tensor) -> None:
    buffer.copy_(frames)
