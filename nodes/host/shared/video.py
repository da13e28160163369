"""The getters of VIDEO that both hosts share."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from einops import rearrange

from ....core.media.files import VideoStream
from ..tensors import audio_from, images_from


class OfStream:
    """The getters of a VIDEO that is a stream of frames; nothing is decoded for them."""

    stream: VideoStream

    def get_dimensions(self) -> tuple[int, int]:
        """(width, height)."""
        return self.stream.width, self.stream.height

    def get_frame_count(self) -> int:
        return self.stream.frames

    def get_frame_rate(self) -> Fraction:
        return self.stream.frame_rate

    def get_duration(self) -> float:
        """Seconds."""
        return float(self.stream.frames / self.stream.frame_rate)

    def in_memory(self) -> dict[str, Any]:
        """`images` [T, H, W, 3], `audio`, `frame_rate`, and `alpha` [T, H, W, 1] (None: opaque),
        all decoded."""
        frames = self.stream.frames_tensor()
        sound = self.stream.audio() if self.stream.audio is not None else None
        return {
            "images": images_from(rearrange(frames[:, :3], "t c h w -> 1 t c h w")),
            "audio": audio_from(sound),
            "frame_rate": self.stream.frame_rate,
            "alpha": (frames[:, 3, ..., None] + 1) / 2 if self.stream.channels == 4 else None,
        }
