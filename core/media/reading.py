"""Reads videos as a stream of tensors, with exactly as many frames as the file has.

Three kinds of source share one interface: containers read with FFmpeg (mp4, mov, webm, mkv, ...),
animated images read with Pillow (gif, webp, apng), and folders of numbered images. Frames are
float32 `t 3 h w` in [-1, 1] of 8-bit precision; alpha is blended over black or is a fourth channel,
and HDR is not tone mapped. `selection` chooses the frames: those stored, whatever their durations,
or those shown at the times of a constant rate.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import dropwhile, islice
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..graph.wording import counted
from .images import (
    FOLDER_FRAME_RATE,
    decode_folder,
    decode_image,
    image_metadata,
    numbered_images,
    scan_folder,
    scan_image,
)
from .info import (
    MAX_VIDEO_PIXELS,
    SizeFault,
    VideoInfo,
    check_picture_size,
    fault_reason,
    kind_of,
)
from .pictures import alpha_decoder, rgb_picture, rgba_picture
from .selection import SelectedFrames, Selection, converted, select_frames
from .timing import Timing

CONTAINER_FAULTS = (av.error.FFmpegError, OSError, ValueError)

# Containers with a reliable time stamp in each packet. Others (AVI, raw streams) guess it, or
# restart counting after a seek; they are decoded from the beginning.
SEEKABLE = ("mov,", "matroska")
# Containers that store when each frame is shown.
TIMED = (*SEEKABLE, "mpeg", "flv", "asf", "ogg")
# Recordings that may start anywhere: frames before the first key frame cannot be decoded.
CUT_ANYWHERE = ("mpeg", "mpegts")


class _Packets(NamedTuple):
    """The displayed frames of a video stream, counted from packets without decoding."""

    frames: int
    times: list[int]  # presentation times in display order; empty if any is missing
    key_times: list[int]
    duration: int  # of the last frame, in the stream's time base


def open_video(path: str | PathLike[str]) -> VideoInfo:
    """Read a video's frame count, size and frame rate without decoding all of it.

    Raises FileNotFoundError if there is no such file or folder, ValueError if it has no frames, is
    corrupt or truncated (with the number of frames that are there).
    """
    path = Path(path)
    scan = {"folder": scan_folder, "image": scan_image}.get(kind_of(path), _scan_container)
    return scan(path)


def read_frames(
    path: str | PathLike[str],
    *,
    start: int = 0,
    count: int | None = None,
    stride: int = 1,
    chunk: int = 16,
    size: tuple[int, int] | None = None,
) -> Iterator[Tensor]:
    """Yield `count` frames (all by default), every `stride`-th one from frame `start` on.

    Each item is float32 `t 3 h w` in [-1, 1] with t = `chunk`, the last one possibly shorter; a
    `size` (height, width) resizes with an antialiased bicubic filter. The request is checked
    against the file before any frame is yielded. If decoding fails midway, the frames before the
    error are yielded first, then ValueError says how many there were.
    """
    info = open_video(path)
    selected = select_frames(info, Selection(start=start, count=count, stride=stride))
    return read_selected(info, selected, chunk=chunk, size=size)


def read_selected(
    info: VideoInfo,
    selected: SelectedFrames,
    *,
    chunk: int = 16,
    size: tuple[int, int] | None = None,
    alpha: bool = False,
) -> Iterator[Tensor]:
    """Yield the selected frames as `read_frames` does; with `alpha` as `t 4 h w`, colours as stored
    and alpha last (1 is opaque, -1 transparent)."""
    if chunk < 1:
        raise ValueError(f"chunk {chunk} must be at least 1")
    if size is not None and min(size) < 1:
        raise ValueError(f"size (height, width) {tuple(size)} must be positive")
    return _chunks(info, selected, chunk, size, alpha)


def read_metadata(path: str | PathLike[str]) -> dict[str, str]:
    """Read a video's text metadata, e.g. {"prompt": ..., "workflow": ...} in JSON; {} if none.

    From containers all tags (with Matroska's upper-case keys in lower case), from PNG the text
    chunks, from WebP the "key:value" strings of the Exif, from GIF the comment (a JSON object of
    texts is unpacked, any other text is under "comment"), from a folder those of its first image.
    """
    path = Path(path)
    kind = kind_of(path)
    if kind == "folder":
        return read_metadata(numbered_images(path)[0])
    return image_metadata(path) if kind == "image" else _container_metadata(path)


# Chunks.


def _chunks(
    info: VideoInfo, selected: SelectedFrames, chunk: int, size: tuple[int, int] | None, alpha: bool
) -> Iterator[Tensor]:
    kind = kind_of(info.path)
    decode = {"folder": decode_folder, "image": decode_image}.get(kind, _decode_container)
    indices, count = selected.indices, selected.frames
    images = decode(info, indices, alpha)
    done, fault = 0, None
    while done < count and fault is None:
        group: list[np.ndarray] = []
        try:
            group.extend(islice(images, min(chunk, count - done)))  # item by item: keeps the
        except ValueError as error:  # frames before an error
            fault = error
        if fault is None and not group:
            decoded = indices[done - 1] + 1 if done else indices[0]
            fault = ValueError(f"{info.path} ends early: {counted(decoded, 'frame')} decoded")
        if group:
            done += len(group)
            yield _to_tensor(group, size)
    if fault is not None:
        raise fault


def _to_tensor(group: list[np.ndarray], size: tuple[int, int] | None) -> Tensor:
    pixels = torch.from_numpy(np.stack(group)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
    if size is None or tuple(pixels.shape[-2:]) == tuple(size):
        return pixels.contiguous()
    return F.interpolate(pixels, size=tuple(size), mode="bicubic", antialias=True).clamp_(-1, 1)


# Containers (FFmpeg).


def _scan_container(path: Path) -> VideoInfo:
    try:
        with open_container(path) as container:
            if not container.streams.video:
                raise ValueError("there is no video track")
            stream = container.streams.video[0]
            context = stream.codec_context
            if context is None:
                raise ValueError("the codec of its pictures is not known")
            check_picture_size(path, context.width, context.height, MAX_VIDEO_PIXELS)
            packets = _packets(container, stream)
            expected = _expected_frames(stream, packets)
            frame_rate = _frame_rate(stream, packets.frames)
            timing = _timing(container, packets)
        with open_container(path) as container:
            picture = _first_picture(container)
    except SizeFault:
        raise
    except StopIteration:
        raise ValueError(f"{path} cannot be read as a video: 0 frames can be decoded") from None
    except CONTAINER_FAULTS as fault:
        raise ValueError(f"{path} cannot be read as a video: {fault_reason(fault)}") from fault
    if packets.frames < expected:
        raise ValueError(
            f"{path} is truncated: {packets.frames} of {counted(expected, 'frame')} are there"
        )
    height, width = picture.shape[:2]
    return VideoInfo(path, packets.frames, width, height, frame_rate, timing)


def _timing(container: av.container.InputContainer, packets: _Packets) -> Timing | None:
    stream = container.streams.video[0]
    if not packets.times or not container.format.name.startswith(TIMED):
        return None
    last = packets.duration
    if not last and stream.average_rate:
        last = round(1 / stream.average_rate / stream.time_base)
    return Timing.of_clock(packets.times, max(1, last), stream.time_base)


def _first_picture(container: av.container.InputContainer) -> np.ndarray:
    stream = container.streams.video[0]
    has_size = stream.codec_context.width > 0
    try:
        return rgb_picture(next(decoded_frames(container, stream)))
    except av.error.FFmpegError:
        if has_size:
            raise
        raise ValueError(
            f"its pictures are damaged, or larger than the {MAX_VIDEO_PIXELS / 1e6:.0f} million "
            f"pixels that are read"
        ) from None


def _frame_rate(stream: av.VideoStream, frames: int) -> Fraction:
    average, guessed = stream.average_rate, stream.guessed_rate
    if not average:
        lasts = stream.duration * stream.time_base if stream.duration else 0
        return frames / lasts if lasts else guessed or FOLDER_FRAME_RATE
    # A time base of milliseconds cannot represent 24000/1001.
    is_rounded = stream.time_base == Fraction(1, 1000) and guessed
    return guessed if is_rounded and abs(guessed - average) < average / 1000 else average


def _packets(container: av.container.InputContainer, stream: av.VideoStream) -> _Packets:
    """Count by demuxing: a header's count may be missing, wrong, or include frames hidden by an
    edit list."""
    times: list[int | None] = []
    key_times, duration = [], 0
    for packet in container.demux(stream):
        if packet.size == 0 or getattr(packet, "is_discard", False):  # flush packet, hidden frame
            continue
        times.append(packet.pts)
        duration = packet.duration or duration
        if packet.is_keyframe and packet.pts is not None:
            key_times.append(packet.pts)
    if container.format.name in CUT_ANYWHERE and key_times:
        times = [time for time in times if time is None or time >= key_times[0]]
    known = sorted(time for time in times if time is not None)
    return _Packets(
        len(times), known if len(known) == len(times) else [], sorted(key_times), duration
    )


def _expected_frames(stream: av.VideoStream, packets: _Packets) -> int:
    """The number of frames that the file claims: MP4's count, or from Matroska's duration."""
    duration = re.fullmatch(r"(\d+):(\d+):([\d.]+)", stream.metadata.get("DURATION", ""))
    if not duration or not packets.times or not stream.average_rate:
        # An edit list may hide frames that the header counts, but it also shortens the duration, so
        # take the smaller of both.
        stated = stream.frames
        if stated and stream.duration and stream.average_rate:
            shown = round(stream.duration * stream.time_base * stream.average_rate)
            return min(stated, max(shown, packets.frames))
        return stated
    hours, minutes, seconds = duration.groups()
    promised = int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)
    end = (packets.times[-1] + packets.duration) * stream.time_base
    missing = (promised - end) * stream.average_rate
    return packets.frames + (round(missing) if missing > 1.5 else 0)


def _decode_container(info: VideoInfo, indices: Sequence[int], alpha: bool) -> Iterator[np.ndarray]:
    """Yield `h w 3`, or with `alpha` `h w 4`, uint8 for non-decreasing frame indices."""
    done, convert = indices[0], rgba_picture if alpha else rgb_picture
    try:
        with open_container(info.path) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            frames = _frames_from(container, stream, indices[0])
            try:
                for index, image in zip(indices, converted(frames, indices, convert), strict=False):
                    yield image
                    done = index + 1
            finally:
                # Avoids a deadlock: a decoding thread that logs waits for the GIL, which is held
                # while freeing the decoder waits for its threads. Flushing stops them first.
                stream.codec_context.flush_buffers()
    except CONTAINER_FAULTS as fault:
        raise ValueError(
            f"{info.path} is corrupt after frame {done} of {info.frames}: {fault_reason(fault)}"
        ) from fault


def _frames_from(
    container: av.container.InputContainer, stream: av.VideoStream, start: int
) -> Iterator[av.VideoFrame]:
    if start > 0 and container.format.name.startswith(SEEKABLE):
        packets = _packets(container, stream)
        key = bisect_right(packets.key_times, packets.times[start]) - 1 if packets.times else -1
        seek_time = packets.key_times[key] if key >= 0 else None
        if seek_time is not None:
            target = packets.times[start]
            container.seek(seek_time, stream=stream)
            frames = decoded_frames(container, stream)
            frames = (frame for frame in frames if frame.pts is None or frame.pts >= target)
            first = next(frames, None)
            if first is not None and first.pts == target:
                yield first
                yield from frames
                return
        container.seek(0, stream=stream)  # no usable index: decode from the start and drop
    yield from islice(decoded_frames(container, stream), start, None)


def open_container(path: Path) -> av.container.InputContainer:
    """Open a file with FFmpeg, with a limit on the frame size, and accept tags in any encoding."""
    # Older PyAV crashes if streams appear after it copied the options.
    is_safe = int(av.__version__.partition(".")[0]) >= 18
    options = {"max_pixels": str(MAX_VIDEO_PIXELS)} if is_safe else {}
    return av.open(str(path), options=options, metadata_errors="replace")


def decoded_frames(
    container: av.container.InputContainer, stream: av.VideoStream
) -> Iterator[av.VideoFrame]:
    """Decode from the container's current position to its end, with transparency if any."""
    stream.codec_context.options = {"max_pixels": str(MAX_VIDEO_PIXELS)}
    decoder = alpha_decoder(stream)
    if decoder is None:
        is_cut = container.format.name in CUT_ANYWHERE
        frames = container.decode(stream)
        yield from dropwhile(lambda f: not f.key_frame, frames) if is_cut else frames
        return
    try:
        for packet in container.demux(stream):
            yield from decoder.decode(packet if packet.size else None)
    finally:
        decoder.flush_buffers()  # as in `_decode_container`


def _container_metadata(path: Path) -> dict[str, str]:
    try:
        with open_container(path) as container:
            tags = dict(container.metadata)
            is_matroska = "matroska" in container.format.name
    except CONTAINER_FAULTS as fault:
        raise ValueError(f"{path} cannot be read as a video: {fault_reason(fault)}") from fault
    return {key.lower(): text for key, text in tags.items()} if is_matroska else tags
