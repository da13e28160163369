"""Decoding of long videos with a decoder that is not local in time (LVDM, appendix).

A window of latents is decoded at a time. Windows overlap, and of what two of them make of the same
latents the half that is farther from a window's end is kept, as the middle of a window is nearest
to what the decoder was trained on. Where videos are to flow into each other at the seams instead,
:func:`.decoding.decode` blends them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from .frame_stream import Frames, FrameStream, check_finite


class Window(NamedTuple):
    """Latents `start` .. `stop - 1` are decoded together, `first` .. `last - 1` of them kept."""

    start: int
    stop: int
    first: int
    last: int


def overlapped_windows(latents: int, window: int, overlap: int) -> list[Window]:
    """The windows of a video of so many latent frames; the first that reaches its end is the last.

    Of an odd overlap the larger half is taken from the earlier window.
    """
    check_windows(window, overlap)
    return list(_chunks(lambda stop: stop <= latents, lambda: latents, window, overlap))


def check_windows(window: int, overlap: int) -> None:
    """Raise ValueError unless windows that overlap so far move on."""
    if not 0 <= overlap < window:
        raise ValueError(
            f"Windows of {window} latent frames must overlap by 0 to {window - 1}, not {overlap}."
        )


def decode_overlapped(
    decoder: Callable[[Tensor], Tensor], latents: Frames, *, window: int = 4, overlap: int = 2
) -> Iterator[Tensor]:
    """Yield the pixels [b t 3 h w] of scaled latents, those that a window keeps at a time.

    decoder: such as :class:`..networks.autoencoder_3d.Autoencoder3D`; the pixels per latent frame
    are counted in what it makes. latents: [b t c h w] or its chunks of any sizes. window, overlap:
    in latent frames; overlap 0 puts separately decoded windows one behind the other. Raises
    ValueError for an overlap that is not below the window, and at the window where latents are not
    finite.
    """
    check_windows(window, overlap)
    return _decoded(decoder, FrameStream(latents), window, overlap)


@torch.no_grad()
def _decoded(
    decoder: Callable[[Tensor], Tensor], stream: FrameStream, window: int, overlap: int
) -> Iterator[Tensor]:
    for start, stop, first, last in _chunks(stream.reaches, lambda: stream.stop, window, overlap):
        part = check_finite(stream.frames(start, stop), start)
        pixels = decoder(part)
        factor = pixels.shape[1] // part.shape[1]
        # A copy: a view would keep what is thrown away in memory for as long as the chunk.
        yield pixels[:, factor * (first - start) : factor * (last - start)].clone()
        stream.forget(start + window - overlap)


def _chunks(
    reaches: Callable[[int], bool], length: Callable[[], int], window: int, overlap: int
) -> Iterator[Window]:
    """Windows of a video that says whether it reaches a frame, and how long it is once it ends."""
    start = done = 0
    while reaches(done + 1):
        is_last = not reaches(start + window + 1)
        stop = min(start + window, length())
        last = stop if is_last else stop - overlap // 2
        yield Window(start, stop, done, last)
        start, done = start + window - overlap, last
