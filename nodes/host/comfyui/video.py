"""A ComfyUI VIDEO whose frames are only made while it is saved."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from inspect import signature
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from comfy.utils import common_upscale
from comfy_api.latest import Input, InputImpl, Types
from torch import Tensor

from ....core.media.files import Selection, VideoInfo, VideoStream, begin_video, open_video
from ....core.media.timing import Timing
from ..shared.metadata import metadata_texts
from ..shared.saving import save_stream
from ..shared.video import StreamGetters
from ..tensors import audio_of, pixels_of

QUALITY, PRESET = 18, "medium"
"""Constant rate factor and x264 preset of the files that we write ourselves."""
SUFFIXES = {".mp4": "mp4", ".webm": "webm"}
FORMATS = {
    ("mp4", "auto"): "mp4", ("mp4", "h264"): "mp4", ("mp4", "av1"): "mp4 (AV1)",
    ("webm", "auto"): "webm", ("webm", "av1"): "webm (AV1)",
}  # fmt: skip
"""Our format for ComfyUI's (container, codec)."""


class StreamedVideo(StreamGetters, Input.Video):
    """A `VideoStream` with the methods of ComfyUI's videos.

    Plain 8-bit MP4 and WebM files are written while the frames are made; trimming, cropping and
    resizing are lazy, too. For all other settings the frames are collected in memory and ComfyUI
    writes the file.
    """

    def __init__(self, stream: VideoStream):
        self.stream = stream
        self.source: Path | None = None

    def get_components(self) -> Types.VideoComponents:
        parts = self.in_memory()
        for name in ("images", "alpha"):
            parts[name] = None if parts[name] is None else parts[name].cpu()
        return Types.VideoComponents(**_accepted_by(Types.VideoComponents, parts))

    def save_to(
        self, path: Any, format: Any = "auto", codec: Any = "auto",
        metadata: Mapping[str, Any] | None = None, bit_depth: int | None = None,
        crf: float | None = None, color_space: str | None = None, preset: str | None = None,
        **more: Any,
    ) -> None:  # fmt: skip
        format_here = _format(path, format, codec)
        more = {key: value for key, value in more.items() if value is not None}
        plain = bit_depth in (None, 8) and color_space in (None, "auto", "sRGB") and not more
        is_slow = format_here != "mp4" or preset in (None, PRESET)
        if format_here is None or not plain or not is_slow:
            given = {"bit_depth": bit_depth, "crf": crf, "color_space": color_space,
                     "preset": preset, **more}  # fmt: skip
            save = self._in_memory().save_to
            save(path, format, codec, metadata, **_accepted_by(save, given))
            return
        from .host import host

        texts = metadata_texts(metadata)
        quality = QUALITY if crf is None else round(crf)
        file = begin_video(Path(path), format_here)
        save_stream(host, self.stream, file, format=format_here, quality=quality, metadata=texts)

    def as_trimmed(
        self, start_time: float | None = None, duration: float | None = None,
        strict_duration: bool = True, **more: Any,
    ) -> StreamedVideo | None:  # fmt: skip
        """The frames that begin within `duration` seconds (0: all) from `start_time`; None if there
        are none or, with `strict_duration`, if they last less than that."""
        trimmed = self.stream.trimmed(start_time or 0, duration or 0)
        if trimmed is None or (strict_duration and trimmed.seconds < Fraction(duration or 0)):
            return None
        return StreamedVideo(trimmed)

    def get_stream_source(self) -> str:
        """The path of a temporary MP4 file, written on the first call; ComfyUI removes it when it
        starts again."""
        if self.source is None:
            from .host import host

            size = self.get_dimensions()
            file = host.folders.new_file("video/VideoLDM", ".mp4", temp=True, size=size)
            self.source = save_stream(host, self.stream, file, format="mp4", quality=QUALITY,
                                      metadata={})  # fmt: skip
        return str(self.source)

    def as_cropped(
        self, x: int = 0, y: int = 0, width: int = 0, height: int = 0, **more: Any
    ) -> StreamedVideo:
        """The frames cropped to the rectangle, rounded to even pixels; unchanged if that is empty
        or the whole frame."""
        rectangle = _even_rectangle((x, y, width, height), self.get_dimensions())
        return self if rectangle is None else self._cropped(rectangle)

    def as_resized(
        self, width: int, height: int, upscale_method: str, crop: str = "disabled",
        post_crop: tuple[int, int, int, int] | None = None, **more: Any,
    ) -> StreamedVideo:  # fmt: skip
        """The frames resized by ComfyUI's method, then cropped to exactly `post_crop`."""

        def resized(pixels: Tensor) -> Tensor:
            images = common_upscale((pixels + 1) / 2, width, height, upscale_method, crop)
            return images * 2 - 1

        video = StreamedVideo(self.stream.changed(resized, width, height))
        return video if post_crop is None else video._cropped(tuple(map(int, post_crop)))

    def has_pending_frame_edits(self) -> bool:
        """False: the file of `get_stream_source` is already cropped and resized."""
        return False

    def _cropped(self, rectangle: tuple[int, int, int, int]) -> StreamedVideo:
        x, y, width, height = rectangle

        def cut(pixels: Tensor) -> Tensor:
            return pixels[..., y : y + height, x : x + width]

        return StreamedVideo(self.stream.changed(cut, width, height))

    def _in_memory(self) -> Any:
        return InputImpl.VideoFromComponents(self.get_components())

    def get_display_dimensions(self) -> tuple[int, int]:
        return self.get_dimensions()

    def get_container_format(self) -> str:
        return "mp4"


def _even_rectangle(
    wanted: tuple[int, int, int, int], size: tuple[int, int]
) -> tuple[int, int, int, int] | None:
    """(x, y, width, height) within a frame of `size` (width, height), rounded to even pixels as
    video codecs require; None for a rectangle that is empty or the whole frame."""
    starts, sides = [], []
    for start, side, limit in zip(wanted[:2], wanted[2:], size, strict=True):
        start = min(max(int(start), 0), limit - 1) // 2 * 2
        starts.append(start)
        sides.append(min(int(side), limit - start))
    if (starts == [0, 0] and sides == list(size)) or min(sides) < 2:
        return None
    return (*starts, *(side // 2 * 2 for side in sides))


def _accepted_by(function: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are not None and that this version of ComfyUI accepts."""
    known = signature(function).parameters
    return {name: value for name, value in given.items() if value is not None and name in known}


def _format(path: Any, format: Any, codec: Any) -> str | None:
    """Our format for these arguments, or None if we cannot write it while streaming."""
    if not isinstance(path, str | PathLike):
        return None
    format, codec = (getattr(one, "value", one) for one in (format, codec))
    suffix = "." + str(path).rpartition(".")[2].lower()
    container = SUFFIXES.get(suffix) if format == "auto" else format
    return FORMATS.get((container, codec))


def stream_of(video: Any) -> VideoStream:
    """The frames of any VIDEO; those of a file are read lazily."""
    if isinstance(video, StreamedVideo):
        return video.stream
    if isinstance(video, InputImpl.VideoFromFile) and _is_uncut(video):
        source = video.get_stream_source()
        if isinstance(source, str):
            return _of_file(open_video(source), *video.get_active_trim_window())
    parts = video.get_components()
    pixels = pixels_of(parts.images)[0].cpu()
    alpha = getattr(parts, "alpha", None)
    if alpha is not None:
        pixels = torch.cat([pixels, alpha.movedim(-1, 1).to(pixels) * 2 - 1], dim=1)
    return VideoStream.from_tensor(pixels, parts.frame_rate, audio=audio_of(parts.audio))


def _is_uncut(video: Any) -> bool:
    """Whether its frames are those of a time range of its file, unedited."""
    edited = getattr(video, "has_pending_frame_edits", lambda: False)()
    return hasattr(video, "get_active_trim_window") and not edited


def _of_file(info: VideoInfo, start_time: float, duration: float) -> VideoStream:
    """The frames that begin within these seconds, as in ComfyUI; duration 0 is to the end."""
    timing = info.timing or Timing.regular(info.frames, info.frame_rate)
    begin = Fraction(start_time).limit_denominator(1_000_000)
    lasts = Fraction(duration).limit_denominator(1_000_000)
    start = timing.before(begin)
    stop = timing.before(begin + lasts) if duration else info.frames
    if start >= stop:
        raise ValueError(
            f"no frame of {info.path} begins from {start_time:g} s to {start_time + duration:g} s"
        )
    return VideoStream.from_selection(info, Selection(start=start, count=stop - start))
