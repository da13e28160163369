"""Latents to frames and back, in chunks, with a decoder that sees neighbouring frames."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...core.graph.wording import counted
from ...core.media.files import VideoStream, exact_frame_rate
from ...core.tasks.chunk_store import Run
from ...core.tasks.decoding import decode, shared_chunks
from ...core.tasks.finished import Finished
from ...core.tasks.stage_outputs import StageOutput
from ..choices import CROP, REFUSE, REPEAT_LAST
from ..host.shared.arriving import Latents, finished_latents, latents
from ..host.shared.finished_stages import VIDEO, known_of, stage_output
from ..host.shared.runs import finished_chunks
from .latent_frames import nearest

if TYPE_CHECKING:
    from ...core.media.files import AudioClip
    from ..host.interface import Decoder, Host, Wire

    Sound = Callable[[], AudioClip | None]

IN_CHUNKS = ("samples", "frame_rate")
"""Inputs that chunks of pixels depend on by their values alone, or not at all."""
NO_CHANGE = ("frame_rate",)
"""Inputs that change nothing about the pixels."""
IMAGE_BYTES = 12
"""Of one pixel of an IMAGE: three numbers in float32."""


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How latents are decoded: frames at a time, side of tiles in pixels (0: whole frames), and
    frames that neighbouring chunks share where the decoder is not local."""

    chunk: int
    tile: int
    overlap: int = 4


@dataclass(frozen=True)
class FinishedDecoder:
    """In place of a decoder all of whose chunks are finished; see `Decoder`."""

    reach: int | None
    factor: int
    temporal_factor: int

    def __call__(self, raw: Tensor) -> Tensor:
        raise OSError("a finished chunk has been removed: run the workflow again")


def frames_output(host: Host) -> StageOutput | None:
    """Where is noted which chunks a node that decodes has finished."""
    return stage_output(host, VIDEO, NO_CHANGE)


def decode_images(
    host: Host, latent: dict[str, Any], vae: Wire | None, settings: Decoding
) -> Tensor:
    """The IMAGE of a LATENT. vae: None where all chunks are finished."""
    output = frames_output(host)
    raw, decoder = finished_latents(latent, host.raw), _decoder(host, vae, output)
    frames, height, width = _video_size(raw.shape, decoder)
    finished = finished_chunks(host, without=IN_CHUNKS)
    videos = raw.shape[0]
    total = videos * frames
    what = f"an IMAGE of {counted(total, 'frame')} of {width}x{height}"
    host.require_memory(IMAGE_BYTES * total * height * width, what, on_cpu=True)
    images = host.image_buffer(total, height, width)
    for video in range(videos):
        stop = video * frames
        for pixels in _decoded(host, raw.video(video), decoder, settings, finished):
            start, stop = stop, stop + pixels.shape[1]
            images[start:stop] = host.images(pixels).to(images)
    _note(output, finished, decoder)
    return images


def decode_video(
    host: Host, latent: dict[str, Any], vae: Wire | None, frame_rate: float | Fraction,
    settings: Decoding, *, audio: Sound | None = None, without: Collection[str] = IN_CHUNKS,
) -> Wire:  # fmt: skip
    """A VIDEO that is decoded while it is saved: one chunk of frames is in memory at a time.

    vae: None where all chunks are finished. without: inputs of the node that runs now on which
    pixels do not depend, but by their latents.
    """
    output = frames_output(host)
    raw, decoder = latents(latent, host.raw), _decoder(host, vae, output)
    if raw.shape[0] != 1:
        raise ValueError(f"{raw.shape[0]} videos were given, a VIDEO holds 1")
    frames, height, width = _video_size(raw.shape, decoder)
    finished = finished_chunks(host, without=without)

    def chunks() -> Iterator[Tensor]:
        own = replace(finished, begun=[]) if isinstance(finished, Run) else finished
        for pixels in _decoded(host, raw, decoder, settings, own):
            yield pixels[0]
        _note(output, own, decoder)

    stream = VideoStream(
        chunks,
        exact_frame_rate(frame_rate),
        frames,
        width,
        height,
        audio,
    )
    return host.video(stream)


def encode_images(host: Host, images: Tensor, vae: Wire, misfit: str = REFUSE) -> dict[str, Any]:
    """The LATENT of an IMAGE, whose sides must be divisible by the autoencoder's factor.

    misfit: one of `choices.MISFITS`, for numbers of frames of which no whole latent frames can be
    made. Raises ValueError, with the two nearest numbers, for those that are refused.
    """
    factor = host.decoder(vae).factor
    height, width = images.shape[1:3]
    if height % factor or width % factor:
        raise ValueError(
            f"frames of {width}x{height} must be divisible by {factor} on both sides, which "
            f"multiple_of {factor} in Load Video takes care of"
        )
    images = _whole_latent_frames(images, host.decoder(vae).temporal_factor, misfit)
    return host.encode(vae, host.pixels(images))


def _whole_latent_frames(images: Tensor, factor: int, misfit: str) -> Tensor:
    """The frames cropped, or their last one repeated, until the factor divides their number."""
    count, rest = len(images), len(images) % factor
    if rest == 0:
        return images
    if misfit == REPEAT_LAST:
        return torch.cat([images, images[-1:].expand(factor - rest, -1, -1, -1)])
    if misfit == CROP and count > rest:
        return images[: count - rest]
    raise ValueError(
        f"{counted(count, 'frame')} do not fit a VAE that makes one latent frame of {factor}: give "
        f"it {nearest(count, factor)}, or have the last frame repeated"
    )


def _decoded(
    host: Host, raw: Latents, decoder: Decoder, settings: Decoding, finished: Finished
) -> Iterator[Tensor]:
    """Pixels [b, t, 3, h, w] chunk by chunk, on the compute device."""
    side = _latent_tile(settings.tile, decoder.factor)
    frames, _, _ = _video_size(raw.shape, decoder)
    chunk, reach = max(1, settings.chunk // decoder.temporal_factor), None
    if decoder.reach is None:
        # Half of what neighbours share lies on either side, and is whole latent frames.
        shared = 2 * -(-settings.overlap // (2 * decoder.temporal_factor))
        chunk, reach = shared_chunks(raw.shape[1], chunk, shared)
    tiles = dict(tile=side, tile_overlap=min(8, (side or 16) // 2))
    parts = decode(decoder, raw.frames(), chunk=chunk, reach=reach, **tiles, finished=finished)
    return _counted(host, parts, frames)


def _decoder(host: Host, vae: Wire | None, output: StageOutput | None) -> Decoder:
    if vae is not None:
        return host.decoder(vae)
    return FinishedDecoder(**known_of(output)["decoder"])


def _note(output: StageOutput | None, finished: Finished, decoder: Decoder) -> None:
    """Note which chunks all frames are in."""
    if output is None or not isinstance(finished, Run) or None in finished.begun:
        return
    known = FinishedDecoder(decoder.reach, decoder.factor, decoder.temporal_factor)
    if decoder != known:
        output.write(finished.begun, {"decoder": asdict(known)})


def _video_size(shape: Sequence[int], decoder: Decoder) -> tuple[int, int, int]:
    """Frames, height and width of the video that latents [b, t, c, h, w] are decoded to."""
    height, width = (decoder.factor * side for side in shape[-2:])
    return decoder.temporal_factor * shape[1], height, width


def _counted(host: Host, parts: Iterator[Tensor], total: int) -> Iterator[Tensor]:
    """The same parts, with progress shown."""
    done = 0
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
