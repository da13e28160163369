"""Decoding of long videos with a decoder that is not local in time (LVDM, appendix).

Latents are decoded in overlapping windows. Of each overlap, every window keeps the half that is
farther from its end, as the middle of a window is closest to what the decoder was trained on. For
seams without a jump, use :func:`.decoding.decode`, which blends them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from .frame_stream import Frames, FrameStream, check_finite


class Window(NamedTuple):
    """Latents start .. stop - 1 are decoded together, first .. last - 1 of them are kept."""

    start: int
    stop: int
    first: int
    last: int


def overlapped_windows(latents: int, window: int, overlap: int) -> list[Window]:
    """The windows over so many latent frames; the first that reaches the end is the last.

    Of an odd overlap, the earlier window keeps the larger half.
    """
    check_windows(window, overlap)
    return list(_chunks(lambda stop: stop <= latents, lambda: latents, window, overlap))


def check_windows(window: int, overlap: int) -> None:
    """Raise ValueError unless the overlap is below the window, so that windows advance."""
    if not 0 <= overlap < window:
        raise ValueError(
            f"Windows of {window} latent frames must overlap by 0 to {window - 1}, not {overlap}."
        )


def decode_overlapped(
    decoder: Callable[[Tensor], Tensor], latents: Frames, *, window: int = 4, overlap: int = 2
) -> Iterator[Tensor]:
    """Yield pixels [b t 3 h w] of scaled latents, those that each window keeps.

    decoder: such as :class:`..networks.autoencoder_3d.Autoencoder3D`; frames per latent frame are
    inferred from its output. latents: [b t c h w] or an iterable of chunks of any length. window,
    overlap: in latent frames; with overlap 0, windows are decoded separately and concatenated.
    Raises ValueError for an overlap that is not below the window, and at the window where latents
    are not finite.
    """
    check_windows(window, overlap)
    return _decoded(decoder, FrameStream(latents), window, overlap)


@torch.no_grad()
def _decoded(
    decoder: Callable[[Tensor], Tensor], stream: FrameStream, window: int, overlap: int
) -> Iterator[Tensor]:
    for start, stop, first, last in _chunks(
        stream.read_until, lambda: stream.stop, window, overlap
    ):
        part = check_finite(stream.frames(start, stop), start)
        pixels = decoder(part)
        factor = pixels.shape[1] // part.shape[1]
        # A copy: a view would keep the discarded pixels in memory for as long as the chunk.
        yield pixels[:, factor * (first - start) : factor * (last - start)].clone()
        stream.release(start + window - overlap)


def _chunks(
    read_until: Callable[[int], bool], length: Callable[[], int], window: int, overlap: int
) -> Iterator[Window]:
    """The windows of a video. length() is its length, once read_until(stop) has returned False."""
    start = done = 0
    while read_until(done + 1):
        is_last = not read_until(start + window + 1)
        stop = min(start + window, length())
        last = stop if is_last else stop - overlap // 2
        yield Window(start, stop, done, last)
        start, done = start + window - overlap, last
