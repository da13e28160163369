"""A VIDEO of ComfyUI's whose frames are made only while it is saved."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from inspect import signature
from os import PathLike
from pathlib import Path
from typing import Any

from comfy.utils import common_upscale
from comfy_api.latest import Input, InputImpl, Types
from einops import rearrange
from torch import Tensor

from ....core.media.files import VideoStream, begin_video
from ..shared.metadata import metadata_texts
from ..shared.saving import save_stream
from ..tensors import audio_from, audio_of, images_from, pixels_of

QUALITY, PRESET = 18, "medium"
"""Of the files that we write ourselves: the constant rate factor, and x264's preset."""
SUFFIXES = {".mp4": "mp4", ".webm": "webm"}


class StreamedVideo(Input.Video):
    """A `VideoStream` with the methods of ComfyUI's videos.

    Plain 8-bit MP4 and WebM files are written while the frames are made; for everything else the
    frames are gathered first and ComfyUI writes the file.
    """

    def __init__(self, stream: VideoStream):
        self.stream = stream

    def get_components(self) -> Types.VideoComponents:
        frames = rearrange(self.stream.frames_tensor(), "t c h w -> 1 t c h w")
        sound = self.stream.audio() if self.stream.audio is not None else None
        return Types.VideoComponents(
            images=images_from(frames).cpu(), frame_rate=self.stream.frame_rate,
            audio=audio_from(sound),
        )  # fmt: skip

    def save_to(
        self, path: Any, format: Any = "auto", codec: Any = "auto",
        metadata: Mapping[str, Any] | None = None, bit_depth: int | None = None,
        crf: float | None = None, color_space: str | None = None, preset: str | None = None,
        **more: Any,
    ) -> None:  # fmt: skip
        container = _container(path, format, codec)
        more = {key: value for key, value in more.items() if value is not None}
        plain = bit_depth in (None, 8) and color_space in (None, "auto", "sRGB") and not more
        if container is None or not plain or (container == "mp4" and preset not in (None, PRESET)):
            given = {"bit_depth": bit_depth, "crf": crf, "color_space": color_space,
                     "preset": preset, **more}  # fmt: skip
            save = self._in_memory().save_to
            save(path, format, codec, metadata, **_known_to(save, given))
            return
        from .host import host

        texts = metadata_texts(metadata)
        quality = QUALITY if crf is None else round(crf)
        file = begin_video(Path(path), container)
        save_stream(host, self.stream, file, format=container, quality=quality, metadata=texts)

    def as_trimmed(self, *args: Any, **kwargs: Any) -> Any:
        return self._in_memory().as_trimmed(*args, **kwargs)

    def as_cropped(
        self, x: int = 0, y: int = 0, width: int = 0, height: int = 0, **more: Any
    ) -> StreamedVideo:
        """The part of the frames under the rectangle, on even pixels; all of them where it is empty
        or covers them."""
        rectangle = _even_rectangle((x, y, width, height), self.get_dimensions())
        return self if rectangle is None else self._under(rectangle)

    def as_resized(
        self, width: int, height: int, upscale_method: str, crop: str = "disabled",
        post_crop: tuple[int, int, int, int] | None = None, **more: Any,
    ) -> StreamedVideo:  # fmt: skip
        """All frames in another size by ComfyUI's resizing, then exactly the rectangle
        `post_crop`."""

        def resized(pixels: Tensor) -> Tensor:
            images = common_upscale((pixels + 1) / 2, width, height, upscale_method, crop)
            return images * 2 - 1

        video = StreamedVideo(self.stream.changed(resized, width, height))
        return video if post_crop is None else video._under(tuple(map(int, post_crop)))

    def has_pending_frame_edits(self) -> bool:
        """False: crops and new sizes are in the frames that `get_stream_source` writes."""
        return False

    def _under(self, rectangle: tuple[int, int, int, int]) -> StreamedVideo:
        x, y, width, height = rectangle

        def cut(pixels: Tensor) -> Tensor:
            return pixels[..., y : y + height, x : x + width]

        return StreamedVideo(self.stream.changed(cut, width, height))

    def _in_memory(self) -> Any:
        return InputImpl.VideoFromComponents(self.get_components())

    def get_dimensions(self) -> tuple[int, int]:
        return self.stream.width, self.stream.height

    def get_display_dimensions(self) -> tuple[int, int]:
        return self.get_dimensions()

    def get_frame_count(self) -> int:
        return self.stream.frames

    def get_frame_rate(self) -> Fraction:
        return self.stream.frame_rate

    def get_duration(self) -> float:
        return float(self.stream.frames / self.stream.frame_rate)

    def get_container_format(self) -> str:
        return "mp4"


def _even_rectangle(
    wanted: tuple[int, int, int, int], size: tuple[int, int]
) -> tuple[int, int, int, int] | None:
    """(x, y, width, height) within a frame of (width, height), on even pixels as video files want
    them; None for a rectangle that is empty or the whole frame."""
    starts, sides = [], []
    for start, side, limit in zip(wanted[:2], wanted[2:], size, strict=True):
        start = min(max(int(start), 0), limit - 1) // 2 * 2
        starts.append(start)
        sides.append(min(int(side), limit - start))
    if (starts == [0, 0] and sides == list(size)) or min(sides) < 2:
        return None
    return (*starts, *(side // 2 * 2 for side in sides))


def _known_to(function: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the settings that are given which this version of ComfyUI knows."""
    known = signature(function).parameters
    return {name: value for name, value in given.items() if value is not None and name in known}


def _container(path: Any, format: Any, codec: Any) -> str | None:
    """The container that we can stream into, or None."""
    if not isinstance(path, str | PathLike):
        return None
    format, codec = (getattr(one, "value", one) for one in (format, codec))
    suffix = "." + str(path).rpartition(".")[2].lower()
    container = SUFFIXES.get(suffix) if format == "auto" else format
    known = {"mp4": ("auto", "h264"), "webm": ("auto",)}
    return container if codec in known.get(container, ()) else None


def stream_of(video: Any) -> VideoStream:
    """The frames of any VIDEO; those of a file are read only when they are needed."""
    if isinstance(video, StreamedVideo):
        return video.stream
    if isinstance(video, InputImpl.VideoFromFile) and _is_whole(video):
        source = video.get_stream_source()
        if isinstance(source, str):
            return VideoStream.from_file(source)
    parts = video.get_components()
    pixels = pixels_of(parts.images)[0].cpu()
    return VideoStream.from_tensor(pixels, parts.frame_rate, audio=audio_of(parts.audio))


def _is_whole(video: Any) -> bool:
    window = getattr(video, "get_active_trim_window", lambda: None)()
    edited = getattr(video, "has_pending_frame_edits", lambda: False)()
    return window is not None and not any(window) and not edited
