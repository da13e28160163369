"""Clips from files and into files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn.functional import interpolate

from ...core.graph import NodeValues, graph_from_api
from ...core.graph.wording import counted
from ...core.media.files import VideoStream, encoding_of, exact_frame_rate
from ..checks import loading_faults, require, video_faults
from ..choices import FITS, RENDERED, RENDERED_FRAMES
from ..host.shared.saving import save_stream
from ..host.tensors import audio_from, audio_of
from .decoding import IMAGE_BYTES

if TYPE_CHECKING:
    from ...core.media.files import AudioClip
    from ..host.interface import Host, Wire

RATE_STEP = 0.01  # of the input: rates that are closer are the same
CHUNK = 16  # frames that are converted at a time
RENDERED_SIZE, RENDERED_RATE, RENDERED_SEED = 64, 15, 20_000


@dataclass(frozen=True, kw_only=True)
class Excerpt:
    """Which frames of a file are loaded, and at which size.

    count 0 takes all frames, width or height 0 keeps that side; sides then shrink to a multiple of
    `multiple_of` by cropping.
    """

    start: int
    count: int
    stride: int
    width: int
    height: int
    fit: str
    multiple_of: int


def load_video(host: Host, file: str, excerpt: Excerpt) -> tuple[Tensor, float, int, Wire]:
    """(IMAGE, frames per second, frame count, AUDIO or None) of a file, or of a rendered clip.

    The sound is that of the chosen frames, as long as they.
    """
    fit, size = excerpt.fit, (excerpt.height, excerpt.width)
    if fit not in FITS:
        raise ValueError(f"fit {fit!r} must be one of {', '.join(FITS)}")
    part = excerpt.start, excerpt.count, excerpt.stride
    stream = (_rendered if file in RENDERED else _from_file)(host, file, *part)
    target = _target_size((stream.height, stream.width), size, excerpt.multiple_of)
    need = IMAGE_BYTES * stream.frames * target[0] * target[1]
    what = f"loading {counted(stream.frames, 'frame')} of {target[1]}x{target[0]}"
    host.require_memory(need, what, on_cpu=True)
    images, done = host.image_buffer(stream.frames, *target), 0
    for chunk in _interruptible(host, stream.chunks()):
        images[done : done + len(chunk)] = host.images(_fitted(chunk, target, fit)[None])
        done += len(chunk)
    return images, float(stream.frame_rate), stream.frames, audio_from(_sound(host, stream))


def _interruptible(host: Host, chunks: Iterator[Tensor]) -> Iterator[Tensor]:
    for chunk in chunks:
        host.check_interrupted()
        yield chunk


def _sound(host: Host, stream: VideoStream) -> AudioClip | None:
    """The pictures are worth having without their sound."""
    try:
        return stream.audio() if stream.audio is not None else None
    except ValueError as fault:
        host.warn(f"{fault}; the pictures are loaded without it")
        return None


def _from_file(host: Host, file: str, start: int, count: int, stride: int) -> VideoStream:
    path = host.folders.input_path(file)
    return VideoStream.from_file(path, start=start, count=count or None, stride=stride)


def _rendered(host: Host, file: str, start: int, count: int, stride: int) -> VideoStream:
    """A clip of one of the procedurally rendered worlds, always the same one."""
    from ...core.families import rendered_video

    wanted = {"file": file, "start": start, "count": count, "stride": stride}
    require(loading_faults, wanted)
    world = file.partition(": ")[2]
    pixels = rendered_video(world, seed=RENDERED_SEED, frames=RENDERED_FRAMES, size=RENDERED_SIZE)
    chosen = pixels[start::stride][: count or None]
    return VideoStream.from_tensor(chosen, Fraction(RENDERED_RATE, stride))


def _target_size(
    size: tuple[int, int], wanted: tuple[int, int], multiple_of: int
) -> tuple[int, int]:
    """(height, width): what was asked for, or the clip's own, cut to a multiple."""
    height, width = (want or have for want, have in zip(wanted, size, strict=True))
    target = height - height % multiple_of, width - width % multiple_of
    if min(target) < multiple_of:
        raise ValueError(
            f"a clip of {width}x{height} is smaller than one multiple of {multiple_of}"
        )
    return target


def _fitted(frames: Tensor, target: tuple[int, int], fit: str) -> Tensor:
    """Frames [t, 3, h, w] at the target size: scaled to cover it and cut, or stretched."""
    height, width = target
    h, w = frames.shape[-2:]
    if fit == "crop" and height <= h and width <= w and max(h - height, w - width) < 64:
        scaled = (h, w)  # A few rows off are better cut than resampled.
    elif fit == "crop":
        factor = max(height / h, width / w)
        scaled = max(round(h * factor), height), max(round(w * factor), width)
    else:
        scaled = target
    if scaled != (h, w):
        frames = interpolate(frames, scaled, mode="bicubic", antialias=True).clamp(-1, 1)
    top, left = (scaled[0] - height) // 2, (scaled[1] - width) // 2
    return frames[..., top : top + height, left : left + width]


# --------------------------------------------------------------------------------------------------
# Saving.


def stream_of(
    host: Host, video: Wire | None, images: Tensor | None, frame_rate: float, audio: Wire | None,
    format: str = "mp4",
) -> VideoStream:  # fmt: skip
    """The one clip that a saving node was given, with the sound it was given, or else its own."""
    given = {"video": video, "images": images}
    require(video_faults, {}, [name for name, value in given.items() if value is not None])
    sound = audio_of(audio)
    if sound is not None and encoding_of(format).audio is None:
        host.warn(f"{format} carries no sound: the audio that is connected is left out")
    if video is None:
        stream = images_stream(host, images, frame_rate)
    else:
        stream = host.stream(video)
        if abs(stream.frame_rate - Fraction(frame_rate)) >= RATE_STEP:
            host.warn(
                f"frame_rate {frame_rate:g} is for images and has no effect here: the video keeps "
                f"its own {float(stream.frame_rate):g} frames per second"
            )
    return stream if sound is None else replace(stream, audio=lambda: sound)


def images_stream(host: Host, images: Tensor, frame_rate: float) -> VideoStream:
    """A clip of an IMAGE, converted chunk by chunk: only the IMAGE itself is in memory."""
    if images.ndim != 4 or not len(images):
        raise ValueError(f"an IMAGE must be [frames, height, width, 3], got {list(images.shape)}")
    frames, height, width = images.shape[:3]
    return VideoStream(
        lambda: (host.pixels(part)[0] for part in images.split(CHUNK)),
        exact_frame_rate(frame_rate),
        frames,
        width,
        height,
    )


def filled_prefix(prefix: str, hidden: Any) -> str:
    """A prefix with its %Node.widget% filled in, which ComfyUI's frontend does for core's nodes
    only; `hidden` has the prompt and the workflow."""
    if not hidden.prompt or "%" not in prefix:
        return prefix
    workflow = (hidden.extra_pnginfo or {}).get("workflow")
    return NodeValues(graph_from_api(hidden.prompt, workflow=workflow), {}).fill_in(prefix)


def save_video(
    host: Host, stream: VideoStream, prefix: str, format: str, quality: int,
    metadata: dict[str, str], *, temp: bool = False,
) -> Path:  # fmt: skip
    """Stream a clip into the next free file and return it; a folder of images for "png"."""
    encoding = encoding_of(format)
    size = (stream.width, stream.height)
    file = host.folders.new_file(
        prefix, encoding.suffix, temp=temp, size=size, under_way=encoding.under_way
    )
    return save_stream(host, stream, file, format=format, quality=quality, metadata=metadata)


def shown_files(host: Host, path: Path) -> list[tuple[str, str]]:
    """(name, folder) of a saved file, or of each image of a saved folder."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [host.folders.relative(file) for file in files]
