"""Latents to frames and back, in chunks, with a decoder that sees neighbouring frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ...core.decoding import decode
from ...core.key_detail import restore_detail
from ...core.low_resolution import enlargement, restore_low_resolution
from ...core.video_files import VideoStream, exact_frame_rate

if TYPE_CHECKING:
    from ..host.interface import Decoder, Host, Wire


IMAGE_BYTES = 12
"""Of one pixel of an IMAGE: three numbers in float32."""


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How latents are decoded: frames at a time, side of tiles in pixels (0 for whole frames), and
    the IMAGEs of what is known of the video: key frames whose detail is to be restored, one every
    `key_spacing` frames, and the small frames that an upsampler enlarged."""

    chunk: int
    tile: int
    key_spacing: int = 4
    key_frames: Tensor | None = None
    low_res_frames: Tensor | None = None


def decode_images(host: Host, latent: dict[str, Any], vae: Wire, settings: Decoding) -> Tensor:
    """The IMAGE of a LATENT."""
    raw = host.raw(latent)
    frames, height, width = _video_size(raw, host.decoder(vae))
    total = len(raw) * frames
    what = f"an IMAGE of {total} frames of {width}x{height}"
    host.require_memory(IMAGE_BYTES * total * height * width, what, on_cpu=True)
    images = host.image_buffer(total, height, width)
    for video, one in enumerate(raw.split(1)):
        stop = video * frames
        for pixels in _decoded(host, one, vae, settings):
            start, stop = stop, stop + pixels.shape[1]
            images[start:stop] = host.images(pixels).to(images)
    return images


def decode_video(
    host: Host, latent: dict[str, Any], vae: Wire, frame_rate: float, settings: Decoding
) -> Wire:
    """A VIDEO that is decoded while it is saved: one chunk of frames is in memory at a time."""
    raw = host.raw(latent)
    decoder = host.decoder(vae)
    if raw.shape[0] != 1:
        raise ValueError(f"{raw.shape[0]} videos were given, a VIDEO holds 1")
    frames, height, width = _video_size(raw, decoder)
    stream = VideoStream(
        lambda: (pixels[0].clamp(-1, 1) for pixels in _decoded(host, raw, vae, settings)),
        exact_frame_rate(frame_rate),
        frames,
        width,
        height,
    )
    return host.video(stream)


def encode_images(host: Host, images: Tensor, vae: Wire) -> dict[str, Any]:
    """The LATENT of an IMAGE, whose sides must be divisible by the autoencoder's factor."""
    factor = host.decoder(vae).factor
    height, width = images.shape[1:3]
    if height % factor or width % factor:
        raise ValueError(
            f"frames of {width}x{height} must be divisible by {factor} on both sides, which "
            f"multiple_of {factor} of Load Video does"
        )
    return host.encode(vae, host.pixels(images))


def _decoded(host: Host, raw: Tensor, vae: Wire, settings: Decoding) -> Iterator[Tensor]:
    """Pixels [b, t, 3, h, w] chunk by chunk, on the compute device."""
    decoder = host.decoder(vae)
    side = _latent_tile(settings.tile, decoder.factor)
    overlap = min(8, (side or 16) // 2)
    frames, height, width = _video_size(raw, decoder)
    small, keys = _pixels(host, settings.low_res_frames), _pixels(host, settings.key_frames)
    if small is not None:
        enlargement(small, frames, height, width)
    if keys is not None:
        _check_keys(keys, frames, height, width, settings.key_spacing)
    chunk = max(1, settings.chunk // decoder.temporal_factor)
    parts = decode(decoder, raw, chunk=chunk, tile=side, tile_overlap=overlap)
    parts = _counted(host, parts, frames)
    if small is not None:
        parts = restore_low_resolution(parts, small)
    return parts if keys is None else restore_detail(parts, keys, settings.key_spacing)


def _video_size(raw: Tensor, decoder: Decoder) -> tuple[int, int, int]:
    """Frames, height and width of the video that latents [b, t, c, h, w] are decoded to."""
    height, width = (decoder.factor * side for side in raw.shape[-2:])
    return decoder.temporal_factor * raw.shape[1], height, width


def _pixels(host: Host, images: Tensor | None) -> Tensor | None:
    return None if images is None else host.pixels(images)


def _counted(host: Host, parts: Iterator[Tensor], total: int) -> Iterator[Tensor]:
    """The same parts, with progress shown."""
    done = 0
    for pixels in parts:
        done += pixels.shape[1]
        host.progress(done, total)
        yield pixels


def _check_keys(keys: Tensor, frames: int, height: int, width: int, spacing: int) -> None:
    if keys.shape[-2:] != (height, width):
        raise ValueError(
            f"the key frames are {keys.shape[-1]}x{keys.shape[-2]}, the video is {width}x{height}"
        )
    if frames != spacing * (keys.shape[1] - 1) + 1:
        raise ValueError(
            f"{keys.shape[1]} key frames every {spacing} frames belong to "
            f"{spacing * (keys.shape[1] - 1) + 1} frames, not to {frames}"
        )


def _latent_tile(tile: int, factor: int) -> int | None:
    if tile == 0:
        return None
    if tile < 2 * factor or tile % factor:
        raise ValueError(
            f"a tile of {tile} pixels must be a multiple of {factor} and at least {2 * factor}"
        )
    return tile // factor
