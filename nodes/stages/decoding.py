"""Decode latents in chunks, with decoders that see neighbouring frames, and encode frames."""

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
from ..host.shared.finished_stages import VIDEO, record_of, stage_output
from ..host.shared.runs import finished_chunks
from .latent_frames import nearest

if TYPE_CHECKING:
    from ...core.media.files import AudioClip
    from ..host.interface import Decoder, Host, Wire

    Sound = Callable[[], AudioClip | None]

IN_CHUNKS = ("samples", "frame_rate")
"""Inputs outside the key of a run: chunks of pixels have their values in their own keys, or do not
depend on them."""
NO_CHANGE = ("frame_rate",)
"""Inputs that do not affect the pixels."""
IMAGE_BYTES = 12
"""Per pixel of an IMAGE: three float32 channels."""


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """Frames per chunk, side of the tiles in pixels (0: whole frames), and frames that neighbouring
    chunks share, for decoders that are not local in time."""

    chunk: int
    tile: int
    overlap: int = 4


@dataclass(frozen=True)
class FinishedDecoder:
    """Stands in for a `Decoder` when all chunks are cached, so that no VAE is loaded."""

    reach: int | None
    factor: int
    temporal_factor: int

    def __call__(self, raw: Tensor) -> Tensor:
        raise OSError("a finished chunk has been removed: run the workflow again")


def frames_output(host: Host) -> StageOutput | None:
    """The record of the chunks that the running decoding node has finished."""
    return stage_output(host, VIDEO, NO_CHANGE)


def decode_images(
    host: Host, latent: dict[str, Any], vae: Wire | None, settings: Decoding
) -> Tensor:
    """Decode a LATENT to an IMAGE. vae: None if all chunks are cached."""
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
    """A VIDEO that is decoded while it is saved, with one chunk of frames in memory at a time.

    vae: None if all chunks are cached. without: inputs of the running node that affect pixels only
    through the latents. Raises ValueError for a LATENT of several videos.
    """
    output = frames_output(host)
    raw, decoder = latents(latent, host.raw), _decoder(host, vae, output)
    if raw.shape[0] != 1:
        raise ValueError(f"{raw.shape[0]} videos were given, a VIDEO holds 1")
    frames, height, width = _video_size(raw.shape, decoder)
    finished = finished_chunks(host, without=without)

    def chunks() -> Iterator[Tensor]:
        own = replace(finished, paths=[]) if isinstance(finished, Run) else finished
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
    """Encode an IMAGE, whose sides must be divisible by the autoencoder's factor, to a LATENT.

    misfit: what to do if the frames do not fill whole latent frames, one of `choices.MISFITS`.
    Refusing raises ValueError with the two nearest numbers of frames.
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
    """Crop the frames, or repeat the last one, so that their number is divisible by the factor."""
    count, rest = len(images), len(images) % factor
    if rest == 0:
        return images
    if misfit == REPEAT_LAST:
        return torch.cat([images, images[-1:].expand(factor - rest, -1, -1, -1)])
    if misfit == CROP and count > rest:
        return images[: count - rest]
    raise ValueError(
        f"{counted(count, 'frame')} do not fit a VAE that makes one latent frame of {factor}: load "
        f"{nearest(count, factor)}, or set misfit to repeat or crop"
    )


def _decoded(
    host: Host, raw: Latents, decoder: Decoder, settings: Decoding, finished: Finished
) -> Iterator[Tensor]:
    """Yield pixels [b t 3 h w] chunk by chunk, on the compute device."""
    side = _latent_tile(settings.tile, decoder.factor)
    frames, _, _ = _video_size(raw.shape, decoder)
    chunk, reach = max(1, settings.chunk // decoder.temporal_factor), None
    if decoder.reach is None:
        # Half of the overlap lies on either side of a border, in whole latent frames.
        shared = 2 * -(-settings.overlap // (2 * decoder.temporal_factor))
        chunk, reach = shared_chunks(raw.shape[1], chunk, shared)
    tiles = dict(tile=side, tile_overlap=min(8, (side or 16) // 2))
    parts = decode(decoder, raw.frames(), chunk=chunk, reach=reach, **tiles, finished=finished)
    return _counted(host, parts, frames)


def _decoder(host: Host, vae: Wire | None, output: StageOutput | None) -> Decoder:
    if vae is not None:
        return host.decoder(vae)
    return FinishedDecoder(**record_of(output)["decoder"])


def _note(output: StageOutput | None, finished: Finished, decoder: Decoder) -> None:
    """Record the files of all chunks, so that another run needs no VAE."""
    if output is None or not isinstance(finished, Run) or None in finished.paths:
        return
    known = FinishedDecoder(decoder.reach, decoder.factor, decoder.temporal_factor)
    if decoder != known:
        output.write(finished.paths, {"decoder": asdict(known)})


def _video_size(shape: Sequence[int], decoder: Decoder) -> tuple[int, int, int]:
    """Frames, height and width in pixels of the video decoded from latents [b t c h w]."""
    height, width = (decoder.factor * side for side in shape[-2:])
    return decoder.temporal_factor * shape[1], height, width


def _counted(host: Host, parts: Iterator[Tensor], total: int) -> Iterator[Tensor]:
    """Yield the same parts and report progress."""
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
