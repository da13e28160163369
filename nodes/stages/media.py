"""Save videos to files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ...core.graph import NodeValues, graph_from_api
from ...core.media.files import VideoStream, encoding_of, exact_frame_rate
from ...core.media.sound import mixed_down
from ..checks import require, video_faults
from ..choices import AS_FRAMES, AS_SHORTER, AUDIO_LENGTHS
from ..host.shared.runs import replacing_partial_file
from ..host.shared.saving import save_stream
from ..host.tensors import audio_of

if TYPE_CHECKING:
    from ...core.media.codecs import Encoding
    from ...core.media.new_files import NewFile
    from ..host.interface import Host, Wire

RATE_STEP = 0.01  # step of the input; rates that differ by less count as equal
CHUNK = 16  # frames converted at a time


@dataclass(frozen=True, kw_only=True)
class Source:
    """What to save: a VIDEO or an IMAGE, optionally with AUDIO and, for an IMAGE, a MASK."""

    video: Wire | None = None
    images: Tensor | None = None
    audio: Wire | None = None
    mask: Tensor | None = None
    frame_rate: float


@dataclass(frozen=True, kw_only=True)
class FileSettings:
    """File format and encoding; see Save Video's inputs."""

    format: str = "mp4"
    quality: int = 18
    ping_pong: bool = False
    loop_count: int = 0
    audio_length: str = AS_FRAMES


def stream_of(host: Host, source: Source, settings: FileSettings) -> VideoStream:
    """The video as it will be in the file; warns about everything the format cannot hold.

    Raises ValueError unless exactly one of video and images is given.
    """
    given = {"video": source.video, "images": source.images}
    require(video_faults, {}, [name for name, value in given.items() if value is not None])
    if settings.audio_length not in AUDIO_LENGTHS:
        raise ValueError(
            f"audio_length {settings.audio_length!r} must be one of {', '.join(AUDIO_LENGTHS)}"
        )
    if source.video is None:
        stream = images_stream(host, source.images, source.frame_rate, source.mask)
    else:
        stream = _video_stream(host, source)
    encoding = encoding_of(settings.format)
    _warn_of_losses(host, stream, settings, encoding, source.audio)
    if settings.ping_pong:
        stream = stream.ping_pong(host.folders.output)
    sound = audio_of(source.audio)
    if sound is not None:
        stream = replace(stream, audio=lambda: sound)
    return stream if encoding.audio is None else _match_audio_length(host, stream, settings)


def _video_stream(host: Host, source: Source) -> VideoStream:
    stream = host.stream(source.video)
    if abs(stream.frame_rate - Fraction(source.frame_rate)) >= RATE_STEP:
        host.warn(
            f"frame_rate {source.frame_rate:g} is for images and has no effect here: the video "
            f"keeps its own {float(stream.frame_rate):g} frames per second"
        )
    if source.mask is not None:
        host.warn("mask is for images and has no effect here: the video keeps its own transparency")
    return stream


def _warn_of_losses(
    host: Host, stream: VideoStream, settings: FileSettings, encoding: Encoding, audio: Wire | None
) -> None:
    format = settings.format
    if audio is not None and encoding.audio is None:
        host.warn(f"{format} carries no sound: the connected audio is left out")
    if stream.channels == 4 and encoding.alpha_pixels is None:
        host.warn(
            f"{format} has no transparency: the frames are laid over black (webm, mov (ProRes "
            f"4444), gif, webp, apng and png keep it)"
        )
    if settings.loop_count and not encoding.loops:
        host.warn(f"{format} files cannot say how often they play: loop_count has no effect")


def _match_audio_length(host: Host, stream: VideoStream, settings: FileSettings) -> VideoStream:
    """Cut the frames to the sound if audio_length says so; warn if the sound is longer. The file
    writer cuts longer sound and pads shorter sound with silence."""
    sound = stream.audio() if stream.audio is not None else None
    if sound is None:
        return stream
    sound = mixed_down(sound)
    stream = replace(stream, audio=lambda: sound)
    lasts = Fraction(sound.waveform.shape[-1], sound.sample_rate)
    frames = max(1, round(lasts * stream.frame_rate))
    if settings.audio_length == AS_SHORTER and frames < stream.frames:
        return stream.part(0, frames)
    if frames > stream.frames:
        host.warn(
            f"the audio lasts {float(lasts):.4g} s and the frames {float(stream.seconds):.4g} s: "
            f"what is beyond them is cut"
        )
    return stream


def images_stream(
    host: Host, images: Tensor, frame_rate: float, mask: Tensor | None = None
) -> VideoStream:
    """A video of an IMAGE, converted chunk by chunk so that memory holds no second copy.

    Transparency is that of the MASK (1 is transparent), else of a fourth channel (1 is opaque).
    """
    if images.ndim != 4 or not len(images):
        raise ValueError(f"an IMAGE must be [frames, height, width, 3], got {list(images.shape)}")
    frames, height, width, channels = images.shape
    opacity = None if mask is None else _opacity(mask, (frames, height, width))
    if opacity is None and channels == 4:
        opacity = images[..., 3]
    return VideoStream(
        lambda: _converted(host, images, opacity),
        exact_frame_rate(frame_rate),
        frames,
        width,
        height,
        channels=3 if opacity is None else 4,
    )


def frames_stream(host: Host, frames: Tensor | Wire) -> VideoStream:
    """An IMAGE or a VIDEO as an opaque stream of frames; that of an IMAGE has a nominal frame rate
    of 1."""
    is_image = isinstance(frames, Tensor)
    return (images_stream(host, frames, 1) if is_image else host.stream(frames)).opaque()


def _converted(host: Host, images: Tensor, opacity: Tensor | None) -> Iterator[Tensor]:
    for start in range(0, len(images), CHUNK):
        pixels = host.pixels(images[start : start + CHUNK])[0]
        if opacity is not None:
            alpha = opacity[start : start + CHUNK, None].to(pixels) * 2 - 1
            pixels = torch.cat([pixels, alpha], dim=1)
        yield pixels


def _opacity(mask: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Opacity [frames, height, width] in [0, 1] from a MASK for each frame, or one for all."""
    mask = mask if mask.ndim == 3 else mask[None]
    frames, *size = shape
    if mask.ndim != 3 or len(mask) not in (1, frames):
        raise ValueError(
            f"a MASK for {frames} frames must be [{frames}, height, width] or one for all, got "
            f"{list(mask.shape)}"
        )
    if list(mask.shape[1:]) != size:
        mask = interpolate(mask[:, None].float(), size, mode="bilinear")[:, 0]
    return (1 - mask).clamp(0, 1).expand(frames, -1, -1)


def filled_prefix(prefix: str, hidden: Any) -> str:
    """Fill in the %Node.widget% of a prefix, which ComfyUI's frontend does only for its own nodes;
    `hidden` has the prompt and the workflow."""
    if not hidden.prompt or "%" not in prefix:
        return prefix
    workflow = (hidden.extra_pnginfo or {}).get("workflow")
    return NodeValues(graph_from_api(hidden.prompt, workflow=workflow), {}).fill_in(prefix)


def save_video(
    host: Host, stream: VideoStream, prefix: str, settings: FileSettings,
    metadata: Mapping[str, str], *, temp: bool = False,
) -> Path:  # fmt: skip
    """Write a video to the next free file name and return its path; for "png", that of a folder of
    images."""
    encoding = encoding_of(settings.format)
    loops = settings.loop_count if encoding.loops else 0
    more = {"format": settings.format, "quality": settings.quality, "loop_count": loops}

    def begin() -> NewFile:
        size = stream.width, stream.height
        return host.folders.new_file(
            prefix, encoding.suffix, temp=temp, size=size, partial_suffix=encoding.partial_suffix
        )

    if temp:
        return save_stream(host, stream, begin(), metadata=metadata, **more)
    with replacing_partial_file(host, begin) as file:
        return save_stream(host, stream, file, metadata=metadata, **more)


def shown_files(host: Host, path: Path) -> list[tuple[str, str]]:
    """(name, folder) of a saved file, or of each image of a saved folder."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [host.folders.relative(file) for file in files]
