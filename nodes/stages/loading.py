"""Load videos: selection of frames, size, sound and transparency."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ...core.graph.wording import counted
from ...core.media.files import Selection, VideoInfo, VideoStream, exact_frame_rate, open_video
from ...core.media.selection import is_variable, select_frames
from ..checks import loading_faults, require
from ..choices import ALPHA, FITS, KEEP_ALPHA, LOADED, RENDERED, RENDERED_FRAMES, VIDEO_ONLY
from ..host.tensors import audio_from
from .decoding import IMAGE_BYTES

if TYPE_CHECKING:
    from ...core.media.files import AudioClip
    from ..host.interface import Host, Wire

RENDERED_SIZE, RENDERED_RATE, RENDERED_SEED = 64, 15, 20_000
MASK_BYTES = 4  # of a pixel
SMALLEST_UNIT = 1_000_000  # seconds given as decimal numbers are rounded to microseconds


@dataclass(frozen=True, kw_only=True)
class Excerpt:
    """The widgets of Load Video: which frames of a file are loaded, and at which size.

    count and duration 0 take all frames, force_rate 0 keeps the file's frame rate, width or height
    0 keeps that side; sides are then cropped to a multiple of `multiple_of`. `edit` is the value of
    ComfyUI's VIDEO_EDIT: trim (start_time, duration) in seconds, crop (x, y, width, height) in
    pixels.
    """

    start: int
    count: int
    stride: int
    width: int
    height: int
    fit: str
    multiple_of: int
    force_rate: float = 0.0
    start_time: float = 0.0
    duration: float = 0.0
    ping_pong: bool = False
    alpha: str = ALPHA[0]
    load: str = LOADED[0]
    edit: Mapping[str, Any] | None = None

    @property
    def is_whole(self) -> bool:
        """Whether all frames are taken as they are stored, whatever their size."""
        chosen = (self.start, self.count, self.stride - 1, self.force_rate, self.start_time,
                  self.duration, self.ping_pong)  # fmt: skip
        parts = [(self.edit or {}).get(name) or {} for name in ("trim", "crop")]
        return not any(chosen) and not any(any(part.values()) for part in parts)


def load_video(host: Host, file: str, excerpt: Excerpt) -> tuple[Wire, ...]:
    """IMAGE, frames per second, frame count, AUDIO or None, MASK and VIDEO of a file, or of one of
    the rendered videos.

    The sound is cut to the selected frames. IMAGE and MASK are held in memory; the frames of the
    VIDEO are read on demand.
    """
    selected = _selected(host, file, excerpt)
    stream = _with_ping_pong(host, selected, excerpt)
    if excerpt.load == VIDEO_ONLY:
        images = mask = host.blocked(
            'Load Video is set to load the video only: connect its output "video", or set load '
            "to frames"
        )
    else:
        images, mask = _frames(host, selected, stream.frames)
    sound = _sound(host, stream)
    video = host.video(stream if stream.audio is None else replace(stream, audio=lambda: sound))
    rate, frames = float(stream.frame_rate), stream.frames
    return images, rate, frames, audio_from(sound), mask, video


def _with_ping_pong(host: Host, selected: VideoStream, excerpt: Excerpt) -> VideoStream:
    return selected.ping_pong(host.folders.output) if excerpt.ping_pong else selected


def _selected(host: Host, file: str, excerpt: Excerpt) -> VideoStream:
    """The selected frames, before ping_pong."""
    for name, value, known in (("fit", excerpt.fit, FITS), ("alpha", excerpt.alpha, ALPHA),
                               ("load", excerpt.load, LOADED)):  # fmt: skip
        if value not in known:
            raise ValueError(f"{name} {value!r} must be one of {', '.join(known)}")
    # Workflows saved before `edit` existed have the value of the upload button in its place.
    edit = excerpt.edit if isinstance(excerpt.edit, dict) else {}
    selection = _selection(excerpt, edit.get("trim") or {})
    read = _rendered if file in RENDERED else _from_file
    stream = _cropped(read(host, file, selection, excerpt.alpha == KEEP_ALPHA), edit.get("crop"))
    size = excerpt.height, excerpt.width
    target = _target_size((stream.height, stream.width), size, excerpt.multiple_of)
    height, width = target
    return stream.changed(lambda chunk: fitted(chunk, target, excerpt.fit), width, height)


def _selection(excerpt: Excerpt, trim: Mapping[str, Any]) -> Selection:
    start_time, duration = excerpt.start_time, excerpt.duration
    trimmed = trim.get("start_time") or 0.0, trim.get("duration") or 0.0
    if any(trimmed):
        if start_time or duration:
            raise ValueError(
                f"the edit trims to {trimmed[0]:g} s + {trimmed[1]:g} s, start_time and duration "
                f"to {start_time:g} s + {duration:g} s: set only one of the two"
            )
        start_time, duration = trimmed
    return Selection(
        frame_rate=exact_frame_rate(excerpt.force_rate) if excerpt.force_rate else None,
        start=excerpt.start,
        count=excerpt.count or None,
        stride=excerpt.stride,
        start_time=_seconds(start_time) if start_time else None,
        duration=_seconds(duration) if duration else None,
    )


def _seconds(value: float) -> Fraction:
    return Fraction(value).limit_denominator(SMALLEST_UNIT)


def _frames(host: Host, stream: VideoStream, frames: int) -> tuple[Tensor, Tensor]:
    """IMAGE and MASK of `frames` frames: those of the stream, then its frames in reverse for
    ping_pong. Without transparency the MASK takes no memory."""
    size, has_alpha = (stream.height, stream.width), stream.channels == 4
    need = (IMAGE_BYTES + MASK_BYTES * has_alpha) * frames * size[0] * size[1]
    what = f"loading {counted(frames, 'frame')} of {size[1]}x{size[0]}"
    host.require_memory(need, what, on_cpu=True)
    images = host.image_buffer(frames, *size)
    mask = images.new_zeros((frames, *size) if has_alpha else (1, 1, 1)).expand(frames, *size)
    done = 0
    for chunk in _interruptible(host, stream.chunks()):
        images[done : done + len(chunk)] = host.images(chunk[None, :, :3])
        if has_alpha:
            mask[done : done + len(chunk)] = (1 - chunk[:, 3]) / 2
        done += len(chunk)
    for index in range(done, frames):
        images[index] = images[2 * done - 2 - index]
        if has_alpha:
            mask[index] = mask[2 * done - 2 - index]
    return images, mask


def _interruptible(host: Host, chunks: Iterator[Tensor]) -> Iterator[Tensor]:
    for chunk in chunks:
        host.check_interrupted()
        yield chunk


def _sound(host: Host, stream: VideoStream) -> AudioClip | None:
    """The sound, or None with a warning if it cannot be read."""
    try:
        return stream.audio() if stream.audio is not None else None
    except ValueError as fault:
        host.warn(f"{fault}; the pictures are loaded without it")
        return None


def _from_file(host: Host, file: str, selection: Selection, alpha: bool) -> VideoStream:
    info = open_video(host.folders.input_path(file))
    if selection.frame_rate is None and is_variable(info):
        shortest, longest = (float(1000 * seconds) for seconds in info.timing.spread)
        host.warn(
            f"{file} has a variable frame rate (pictures of {shortest:.0f} to {longest:.0f} ms), "
            f"which frames without times lose: set force_rate to keep its speed"
        )
    return VideoStream.from_selection(info, selection, alpha=alpha)


def _rendered(host: Host, file: str, selection: Selection, alpha: bool) -> VideoStream:
    """A procedurally rendered video; with a fixed seed, so always the same. It is opaque."""
    from ...core.families import rendered_video

    require(loading_faults, {**vars(selection), "count": selection.count or 0, "file": file})
    world = file.partition(": ")[2]
    pixels = rendered_video(world, seed=RENDERED_SEED, frames=RENDERED_FRAMES, size=RENDERED_SIZE)
    size = RENDERED_SIZE, RENDERED_SIZE
    info = VideoInfo(Path(file), RENDERED_FRAMES, *size, Fraction(RENDERED_RATE))
    chosen = select_frames(info, selection)
    pixels = pixels[list(chosen.indices)]
    if alpha:
        pixels = torch.cat([pixels, torch.ones_like(pixels[:, :1])], dim=1)
    return VideoStream.from_tensor(pixels, chosen.frame_rate)


def _cropped(stream: VideoStream, crop: Mapping[str, Any] | None) -> VideoStream:
    """Crop the frames to a rectangle, clipped to them; unchanged if it is empty or covers all."""
    sides = ("x", "y", "width", "height")
    x, y, width, height = (int((crop or {}).get(side) or 0) for side in sides)
    x, y = (min(max(0, at), side - 1) for at, side in ((x, stream.width), (y, stream.height)))
    width, height = min(width, stream.width - x), min(height, stream.height - y)
    if width < 1 or height < 1 or (width, height) == (stream.width, stream.height):
        return stream
    return stream.changed(lambda chunk: chunk[..., y : y + height, x : x + width], width, height)


def _target_size(
    size: tuple[int, int], wanted: tuple[int, int], multiple_of: int
) -> tuple[int, int]:
    """(height, width) as wanted, where 0 keeps the video's own, rounded down to a multiple."""
    height, width = (want or have for want, have in zip(wanted, size, strict=True))
    target = height - height % multiple_of, width - width % multiple_of
    if min(target) < multiple_of:
        raise ValueError(
            f"a video of {width}x{height} is smaller than one multiple of {multiple_of}"
        )
    return target


def fitted(frames: Tensor, target: tuple[int, int], fit: str) -> Tensor:
    """Resize frames [t c h w] to the target (height, width): scaled to cover it and cropped, or
    stretched."""
    height, width = target
    h, w = frames.shape[-2:]
    if fit == "crop" and height <= h and width <= w and max(h - height, w - width) < 64:
        scaled = (h, w)  # A small difference in size is cropped without resampling.
    elif fit == "crop":
        factor = max(height / h, width / w)
        scaled = max(round(h * factor), height), max(round(w * factor), width)
    else:
        scaled = target
    if scaled != (h, w):
        frames = interpolate(frames, scaled, mode="bicubic", antialias=True).clamp(-1, 1)
    top, left = (scaled[0] - height) // 2, (scaled[1] - width) // 2
    return frames[..., top : top + height, left : left + width]
