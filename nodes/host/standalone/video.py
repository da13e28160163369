"""The standalone host's VIDEO: a stream of frames with the methods of ComfyUI's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ....core.media.files import VideoStream
from ..shared.metadata import metadata_texts
from ..shared.saving import save_stream
from ..shared.video import StreamGetters
from ..tensors import audio_of, pixels_of

if TYPE_CHECKING:
    from .host import StandaloneHost


@dataclass(frozen=True)
class StandaloneVideo(StreamGetters):
    """A video whose frames are read or made lazily."""

    stream: VideoStream
    path: Path | None = None

    def get_components(self) -> SimpleNamespace:
        """`images` [T, H, W, 3], `audio`, `frame_rate` and `alpha`, all in memory."""
        return SimpleNamespace(**self.in_memory())

    def get_stream_source(self) -> str | None:
        return None if self.path is None else str(self.path)

    def get_bit_depth(self) -> int:
        return 8

    def get_color_space(self) -> str:
        return "sRGB"

    def save_to(
        self, path: str | PathLike, metadata: Mapping[str, Any] | None = None, **more: Any
    ) -> Any:
        """Stream the video into a file; `metadata` values that are not text become JSON."""
        texts = metadata_texts(metadata)
        return self.stream.save(path, metadata=texts, **more)


def video_from_images(images: Tensor, frame_rate: float, audio: Any = None) -> StandaloneVideo:
    """A video of the frames in an IMAGE, as of CreateVideo."""
    pixels = pixels_of(images)[0].cpu()
    stream = VideoStream.from_tensor(pixels, frame_rate, audio=audio_of(audio))
    return StandaloneVideo(stream)


def video_from_file(path: Path) -> StandaloneVideo:
    return StandaloneVideo(VideoStream.from_file(path), path)


def save_as_comfyui(
    host: StandaloneHost, video: StandaloneVideo, prefix: str, format: Any, codec: Any,
    metadata: Mapping[str, str],
) -> Path:  # fmt: skip
    """Save with the settings of ComfyUI's node, flat or nested, and return the file."""
    if isinstance(format, dict):
        format, codec = format["format"], format.get("codec") or codec
    encoding = (codec.get("encoding") if isinstance(codec, dict) else None) or {}
    container = "mp4" if format == "auto" else format
    size = video.get_dimensions()
    file = host.folders.new_file(prefix, f".{container}", size=size)
    quality = round(encoding.get("crf", 18))
    return save_stream(
        host, video.stream, file, format=container, quality=quality, metadata=metadata
    )
