"""Decoding of latents in chunks, so that memory does not grow with the length of a video.

A temporal decoder makes a frame from at most `reach` latent frames on either side (see
:class:`..networks.autoencoder.TemporalDecoder`). Each chunk is decoded together with that many
neighbours, whose pixels are discarded: the video is the same for every chunk size. Where `reach` is
None, a frame depends on all frames decoded with it, and the chunk size is a setting. One latent
frame stands for `temporal_factor` frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .finished import Finished, always_made
from .frame_stream import Frames, FrameStream, check_finite
from .windows import tiled

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

    from ..networks.autoencoder import TemporalDecoder

Decode = Callable[[Tensor], Tensor]
"""decode(latents [b t c h w]) -> pixels [b t 3 f h f w]."""


def decode(
    decoder: TemporalDecoder | AutoencoderKL | Decode,
    latents: Frames,
    *,
    chunk: int = 16,
    reach: int | None = None,
    tile: int | None = None,
    tile_overlap: int = 8,
    finished: Finished = always_made,
) -> Iterator[Tensor]:
    """Yield pixels [b t 3 f h f w] in about [-1, 1], `chunk` latent frames at a time.

    latents: scaled, [b t c h w] or an iterable of chunks of any length. chunk, reach: in latent
    frames; `reach` neighbours are decoded on either side of a chunk, by default as many as the
    decoder sees, or none where it is not local. With fewer, neighbouring chunks differ where they
    meet, and are blended linearly over the 2 reach frames that both contain.
    tile: side of square tiles in latent positions, blended over `tile_overlap`, which changes
    pixels near their borders; None = whole frames.
    finished: the store of chunks; the key of the run identifies the decoder and the tiles.

    Raises ValueError for chunks too short to blend, and at the chunk where latents are not finite.
    """
    needed, factor = getattr(decoder, "reach", 0), getattr(decoder, "temporal_factor", 1)
    overlap = (needed or 0) if reach is None else reach
    blending = needed is None or overlap < needed
    if chunk < 1 or overlap < 0:
        raise ValueError(f"chunk {chunk} must be at least 1 frame, and reach {overlap} at least 0.")
    if blending and chunk < 2 * overlap:
        have = "whole video" if needed is None else needed
        raise ValueError(
            f"chunk {chunk} must be at least 2 x {overlap}, the frames over which chunks are "
            f"blended when reach is below the decoder's {have}."
        )
    if tile is not None and not 0 <= tile_overlap < tile:
        raise ValueError(f"The overlap {tile_overlap} must be smaller than the tile {tile}.")
    run = _in_tiles(_decode_of(decoder), tile, tile_overlap)
    windows = _windows(FrameStream(latents), chunk, overlap)
    if blending:
        return _blended(run, windows, overlap, factor, finished)
    return _trimmed(run, windows, factor, finished)


def shared_chunks(frames: int, chunk: int, overlap: int) -> tuple[int, int]:
    """(chunk, reach) of :func:`decode` for a decoder that is not local: `chunk` latent frames are
    decoded together, and neighbouring chunks are blended over the `overlap` frames that they share.

    A video that fits one chunk is decoded whole. Raises ValueError for overlaps above half a chunk.
    """
    if frames <= chunk:
        return max(frames, 1), 0
    if 2 * overlap > chunk:
        raise ValueError(f"overlap {overlap} must be at most half of chunk {chunk}")
    reach = overlap // 2
    return chunk - 2 * reach, reach


def _windows(stream: FrameStream, chunk: int, overlap: int) -> Iterator[tuple[Tensor, int, int]]:
    """(frames start - before .. stop + after - 1, before, after) for each chunk start .. stop - 1.

    There are `overlap` frames on either side of a chunk, fewer at the ends of the video.
    """
    start = 0
    while stream.read_until(start + 1):
        stream.read_until(start + chunk + overlap)
        stop = min(start + chunk, stream.stop)
        before, after = min(overlap, start), min(overlap, stream.stop - stop)
        yield stream.frames(start - before, stop + after), before, after
        start = stop
        stream.release(start - overlap)


def _trimmed(
    run: Decode, windows: Iterator[tuple[Tensor, int, int]], factor: int, finished: Finished
) -> Iterator[Tensor]:
    """The chunks without their neighbours."""

    def pending() -> Iterator[tuple[Callable[[], Tensor], torch.device]]:
        for latents, before, after in windows:
            first, stop = factor * before, factor * (latents.shape[1] - after)
            # A copy: a view would keep the neighbours' pixels in memory for as long as the chunk.
            make = partial(lambda own, a, b: run(own)[:, a:b].clone(), latents, first, stop)
            yield finished.begin(make, latents=latents, first=first, stop=stop), latents.device

    for chunk, device in finished.ahead(pending()):
        yield chunk().to(device)


def _blended(
    run: Decode,
    windows: Iterator[tuple[Tensor, int, int]],
    overlap: int,
    factor: int,
    finished: Finished,
) -> Iterator[Tensor]:
    """The chunks, each blended from the one before over the frames that both contain.

    The last `overlap` frames of a chunk are held back, as the next one still changes them. Chunks
    are stored with their neighbours, which blending needs.
    """

    def pending() -> Iterator[tuple[Callable[[], Tensor], torch.device, int]]:
        for latents, _, after in windows:
            chunk = finished.begin(partial(run, latents), latents=latents)
            yield chunk, latents.device, after

    tail: Tensor | None = None
    for chunk, device, after in finished.ahead(pending()):
        pixels = chunk().to(device)
        if tail is not None:
            shared = tail.shape[1]
            pixels = torch.cat([_cross_fade(tail, pixels[:, :shared]), pixels[:, shared:]], dim=1)
        # The `overlap` frames before this chunk were held back, so all of `pixels` is new.
        keep = pixels.shape[1] - factor * (overlap + after if after else 0)
        tail = pixels[:, keep:].clone()
        if keep:
            yield pixels[:, :keep].clone()


def _cross_fade(old: Tensor, new: Tensor) -> Tensor:
    """From old to new along the frames, with weights strictly between 0 and 1."""
    weight = torch.linspace(0, 1, old.shape[1] + 2)[1:-1].to(new).reshape(1, -1, 1, 1, 1)
    return torch.lerp(old, new, weight)


def _in_tiles(run: Decode, tile: int | None, overlap: int) -> Decode:
    if tile is None:
        return run
    return lambda latents: tiled(run, latents, tile, overlap)


def _decode_of(decoder: TemporalDecoder | AutoencoderKL | Decode) -> Decode:
    """The decoder as a function that runs in its own precision; pixels have that of the latents."""

    @torch.no_grad()
    def run(latents: Tensor) -> Tensor:
        check_finite(latents)
        if not isinstance(decoder, nn.Module):
            return decoder(latents)
        # Imported here: videos whose chunks are all finished need none of these libraries.
        from diffusers import AutoencoderKL

        from ..networks.autoencoder import decode_frames

        own = latents.to(next(decoder.parameters()))
        image = isinstance(decoder, AutoencoderKL)
        return (decode_frames(decoder, own) if image else decoder(own)).to(latents)

    return run
