"""Latents to frames and back, in chunks, with a decoder that sees neighbouring frames."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ...core.decoding import decode
from ...core.video_files import VideoStream, exact_frame_rate

if TYPE_CHECKING:
    from ..host.interface import Host, Wire


def decode_images(
    host: Host, latent: dict[str, Any], vae: Wire, *, chunk: int, tile: int
) -> Tensor:
    """The IMAGE of a LATENT; `tile` in pixels, 0 for whole frames."""
    raw, factor = host.raw(latent), host.decoder(vae).factor
    frames, _, height, width = raw.shape[1:]
    images = host.image_buffer(len(raw) * frames, factor * height, factor * width)
    for video, one in enumerate(raw.split(1)):
        stop = video * frames
        for pixels in _decoded(host, one, vae, chunk, tile):
            start, stop = stop, stop + pixels.shape[1]
            images[start:stop] = host.images(pixels).to(images)
    return images


def decode_video(
    host: Host, latent: dict[str, Any], vae: Wire, *, frame_rate: float, chunk: int, tile: int
) -> Wire:
    """A VIDEO that is decoded while it is saved: one chunk of frames is in memory at a time."""
    raw = host.raw(latent)
    decoder = host.decoder(vae)
    if raw.shape[0] != 1:
        raise ValueError(f"{raw.shape[0]} videos were given, a VIDEO holds 1")
    frames, _, height, width = raw.shape[1:]
    stream = VideoStream(
        lambda: (pixels[0].clamp(-1, 1) for pixels in _decoded(host, raw, vae, chunk, tile)),
        exact_frame_rate(frame_rate),
        frames,
        decoder.factor * width,
        decoder.factor * height,
    )
    return host.video(stream)


def encode_images(host: Host, images: Tensor, vae: Wire) -> dict[str, Any]:
    """The LATENT of an IMAGE, whose sides must be divisible by the autoencoder's factor."""
    factor = host.decoder(vae).factor
    height, width = images.shape[1:3]
    if height % factor or width % factor:
        raise ValueError(f"frames of {width}x{height} must be divisible by {factor} on both sides")
    return host.encode(vae, host.pixels(images))


def _decoded(host: Host, raw: Tensor, vae: Wire, chunk: int, tile: int) -> Iterator[Tensor]:
    """Pixels [b, t, 3, h, w] chunk by chunk, on the compute device."""
    decoder = host.decoder(vae)
    side = _latent_tile(tile, decoder.factor)
    total, done = raw.shape[1], 0
    parts = decode(decoder, raw, chunk=chunk, tile=side, tile_overlap=min(8, (side or 16) // 2))
    for pixels in parts:
        done += pixels.shape[1]
        host.progress(done, total)
        yield pixels


def _latent_tile(tile: int, factor: int) -> int | None:
    if tile == 0:
        return None
    if tile < 2 * factor or tile % factor:
        raise ValueError(
            f"a tile of {tile} pixels must be a multiple of {factor} and at least {2 * factor}"
        )
    return tile // factor
