"""Lazy videos, generated or decoded only when their frames are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor

from .info import AudioClip, VideoInfo, exact_frame_rate
from .new_files import NewFile
from .reading import open_video, read_selected
from .selection import Selection, select_frames
from .sound import mixed_down, sound_of
from .spool import back_and_forth, mirrored
from .writing import checked_settings, write_checked


def _over_black(chunk: Tensor) -> Tensor:
    return (chunk[:, :3] + 1) * (chunk[:, 3:] + 1) / 2 - 1


@dataclass(frozen=True)
class VideoStream:
    """A video: each call of `chunks()` starts over and yields `t 3 h w` in [-1, 1], or if
    `channels` is 4 `t 4 h w` with alpha last.

    `frames`, `width`, `height` and `channels` are declared in advance and checked while reading;
    `audio` is saved in formats with sound.
    """

    source: Callable[[], Iterator[Tensor]]
    frame_rate: Fraction
    frames: int
    width: int
    height: int
    audio: Callable[[], AudioClip | None] | None = None
    channels: int = 3

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
        """A file, or the part of it that `read_frames` yields for the same arguments.

        Raises the same errors; no frames are read yet.
        """
        selection = Selection(start=start, count=count, stride=stride)
        return cls.from_selection(open_video(path), selection, chunk=chunk)

    @classmethod
    def from_selection(
        cls, info: VideoInfo, selection: Selection, *, chunk: int = 16, alpha: bool = False
    ) -> VideoStream:
        """A part of a file; with `alpha` its transparency is the fourth channel.

        Raises ValueError if the file does not have that part; no frames are read yet.
        """
        selected = select_frames(info, selection)
        return cls(
            lambda: read_selected(info, selected, chunk=chunk, alpha=alpha),
            selected.frame_rate,
            selected.frames,
            info.width,
            info.height,
            lambda: sound_of(info, selected),
            4 if alpha else 3,
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
        frames, channels, height, width = pixels.shape
        rate = exact_frame_rate(frame_rate)
        sound = (lambda: audio) if audio is not None else None
        shape = frames, width, height
        return cls(lambda: iter(pixels.split(chunk)), rate, *shape, sound, max(3, channels))

    def changed(self, change: Callable[[Tensor], Tensor], width: int, height: int) -> VideoStream:
        """The video with `change` applied to each chunk `t 3 h w`, which must return frames of
        `width` x `height`; lazily."""
        return replace(self, source=lambda: map(change, self.chunks()), width=width, height=height)

    def trimmed(self, start_time: float, duration: float) -> VideoStream | None:
        """The frames that start within `duration` seconds (0: all) from `start_time` seconds on,
        lazily; None if there are none."""
        begin, lasts = (Fraction(one).limit_denominator(1_000_000) * self.frame_rate
                        for one in (start_time, duration))  # fmt: skip
        start = max(0, ceil(begin))
        stop = min(self.frames, ceil(begin + lasts)) if duration else self.frames
        if start >= stop:
            return None
        return self if (start, stop) == (0, self.frames) else self.part(start, stop - start)

    def opaque(self) -> VideoStream:
        """The video blended over black, `t 3 h w`; itself if it has no transparency."""
        if self.channels == 3:
            return self
        return replace(self, source=lambda: map(_over_black, self.chunks()), channels=3)

    @property
    def seconds(self) -> Fraction:
        return self.frames / self.frame_rate

    def part(self, start: int, count: int) -> VideoStream:
        """`count` frames from frame `start` on with their sound, lazily; the frames before them are
        generated and dropped."""
        if start < 0 or count < 1 or start + count > self.frames:
            raise ValueError(
                f"frames {start} to {start + count} are not in a video of {self.frames}"
            )
        sound = None if self.audio is None else lambda: self._sound_of_part(start, count)
        return replace(self, source=lambda: self._part(start, count), frames=count, audio=sound)

    def _part(self, start: int, count: int) -> Iterator[Tensor]:
        done, stop = 0, start + count
        for chunk in self.chunks():
            part = chunk[max(0, start - done) : stop - done]
            done += len(chunk)
            del chunk
            if len(part):
                yield part
            del part
            if done >= stop:
                return

    def _sound_of_part(self, start: int, count: int) -> AudioClip | None:
        sound = self.audio()
        if sound is None:
            return None
        begin, length = (round(n / self.frame_rate * sound.sample_rate) for n in (start, count))
        return AudioClip(sound.waveform[:, begin : begin + length], sound.sample_rate)

    def ping_pong(self, folder: Path | None = None) -> VideoStream:
        """The video forwards, then backwards without repeating the first and last frame, with its
        sound. Frames are stored on disk in `folder` meanwhile."""
        if self.frames < 3:
            return self
        sound = None if self.audio is None else self._mirrored_sound
        return replace(
            self,
            source=lambda: back_and_forth(self.chunks(), folder),
            frames=2 * self.frames - 2,
            audio=sound,
        )

    def _mirrored_sound(self) -> AudioClip | None:
        sound = self.audio()
        return None if sound is None else mirrored(sound, self.frames, self.seconds)

    def chunks(self) -> Iterator[Tensor]:
        """Yield the video from its beginning in chunks `t c h w` in [-1, 1], c = `channels`."""
        done = 0
        for chunk in self.source():
            if chunk.ndim == 5 and chunk.shape[0] == 1:
                chunk = chunk[0]
            channels, height, width = chunk.shape[-3:]
            if self.channels == 4 and channels != 4:
                raise ValueError(f"a chunk after frame {done} has lost its transparency")
            if (width, height) != (self.width, self.height):
                raise ValueError(
                    f"a chunk after frame {done} is {width}x{height} "
                    f"but the video is {self.width}x{self.height}"
                )
            done += chunk.shape[0]
            yield chunk
            del chunk
        if done != self.frames:
            raise ValueError(f"the video gave {done} frames but {self.frames} were announced")

    def frames_tensor(self) -> Tensor:
        """All frames in memory, `t c h w` in [-1, 1]: for c = 3, 12 bytes per pixel and frame."""
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
        """Stream the video to a file, with sound if the format has any; see `write_video`."""
        settings = checked_settings(
            path,
            frame_rate=self.frame_rate,
            format=format,
            quality=quality,
            metadata=metadata,
            loop_count=loop_count,
        )
        if self.audio is not None and settings.encoding.audio is not None:
            sound = self.audio()
            settings = replace(settings, audio=None if sound is None else mixed_down(sound))
        return write_checked(path, self.chunks(), settings)
