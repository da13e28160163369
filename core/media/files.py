"""Frames <-> files: the one module to import for reading, writing and passing on video.

The parts: `reading` (files -> frames), `selection` (which of them), `sound` (their sound),
`writing` (frames -> files), `codecs` (which files), `info` (what a video is). `VideoStream` is a
video that is made or decoded only when somebody asks for its frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from os import PathLike

import torch
from torch import Tensor

from .codecs import FORMATS
from .hardware import encoding_of
from .info import AudioClip, VideoInfo, exact_frame_rate
from .new_files import NewFile
from .reading import checked_count, open_video, read_frames, read_metadata
from .sound import mixed_down, read_audio
from .writing import begin_video, checked_order, write_order, write_video

__all__ = [
    "FORMATS",
    "AudioClip",
    "VideoInfo",
    "VideoStream",
    "begin_video",
    "encoding_of",
    "exact_frame_rate",
    "open_video",
    "read_audio",
    "read_frames",
    "read_metadata",
    "write_video",
]


@dataclass(frozen=True)
class VideoStream:
    """A clip as a recipe: `chunks()` starts over at each call and yields `t 3 h w` in [-1, 1].

    `frames`, `width` and `height` are promises, checked while the chunks run by; `audio` travels
    along into files that can carry sound.
    """

    source: Callable[[], Iterator[Tensor]]
    frame_rate: Fraction
    frames: int
    width: int
    height: int
    audio: Callable[[], AudioClip | None] | None = None

    @classmethod
    def from_file(
        cls,
        path: str | PathLike[str],
        *,
        start: int = 0,
        count: int | None = None,
        stride: int = 1,
        chunk: int = 16,
    ) -> VideoStream:
        """Refer to a file, or to the part of it that `read_frames` gives for the same numbers.

        Errors as there, and nothing is decoded yet.
        """
        info = open_video(path)
        part = {
            "start": start,
            "stride": stride,
            "count": checked_count(info, start, count, stride),
        }
        return cls(
            lambda: read_frames(path, **part, chunk=chunk),
            info.frame_rate / stride,
            part["count"],
            info.width,
            info.height,
            lambda: read_audio(path, **part),
        )

    @classmethod
    def from_tensor(
        cls,
        pixels: Tensor,
        frame_rate: Fraction | float,
        *,
        audio: AudioClip | None = None,
        chunk: int = 16,
    ) -> VideoStream:
        """Wrap frames `t 3 h w` or `1 t 3 h w` in [-1, 1] that are already in memory."""
        if pixels.ndim == 5 and pixels.shape[0] == 1:
            pixels = pixels[0]
        if pixels.ndim != 4 or not pixels.shape[0]:
            raise ValueError(f"pixels {tuple(pixels.shape)} must be (t, 3, h, w) with t at least 1")
        frames, _, height, width = pixels.shape
        rate = exact_frame_rate(frame_rate)
        sound = (lambda: audio) if audio is not None else None
        return cls(lambda: iter(pixels.split(chunk)), rate, frames, width, height, sound)

    def changed(self, change: Callable[[Tensor], Tensor], width: int, height: int) -> VideoStream:
        """The clip whose chunks `t 3 h w` are given to `change`, which makes them width x height;
        as lazy as this one."""
        return replace(self, source=lambda: map(change, self.chunks()), width=width, height=height)

    def chunks(self) -> Iterator[Tensor]:
        """Yield the clip from its beginning, chunk by chunk, `t 3 h w` in [-1, 1]."""
        done = 0
        for chunk in self.source():
            if chunk.ndim == 5 and chunk.shape[0] == 1:
                chunk = chunk[0]
            height, width = chunk.shape[-2:]
            if (width, height) != (self.width, self.height):
                raise ValueError(
                    f"a chunk after frame {done} is {width}x{height} "
                    f"but the clip is {self.width}x{self.height}"
                )
            done += chunk.shape[0]
            yield chunk
            del chunk
        if done != self.frames:
            raise ValueError(f"the clip gave {done} frames but {self.frames} were announced")

    def frames_tensor(self) -> Tensor:
        """Materialise all frames, `t 3 h w` in [-1, 1]: 12 bytes per pixel and frame."""
        return torch.cat(list(self.chunks()))

    def save(
        self,
        path: str | PathLike[str] | NewFile,
        *,
        format: str | None = None,
        quality: int = 18,
        metadata: Mapping[str, str] | None = None,
        loop_count: int = 0,
    ) -> VideoInfo:
        """Stream the video into a file, with its sound where the format has any (`write_video`)."""
        settings = {"format": format, "quality": quality, "loop_count": loop_count}
        order = checked_order(path, frame_rate=self.frame_rate, metadata=metadata, **settings)
        if self.audio is not None and order.encoding.audio is not None:
            sound = self.audio()
            order = replace(order, audio=None if sound is None else mixed_down(sound))
        return write_order(path, self.chunks(), order)
