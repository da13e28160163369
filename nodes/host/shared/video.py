"""The getters of a VIDEO that both hosts share."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch

from ....core.media.files import VideoStream
from ..tensors import audio_from, images_from


class StreamGetters:
    """The getters of a VIDEO that is a stream of frames; only `in_memory` decodes them."""

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
        stream, done = self.stream, 0
        size = stream.frames, stream.height, stream.width
        images = torch.empty(*size, 3)
        alpha = torch.empty(*size, 1) if stream.channels == 4 else None
        for chunk in stream.chunks():
            at = slice(done, done + len(chunk))
            images[at] = images_from(chunk[None, :, :3])
            if alpha is not None:
                alpha[at] = (chunk[:, 3, ..., None] + 1) / 2
            done += len(chunk)
        sound = stream.audio() if stream.audio is not None else None
        return {
            "images": images,
            "audio": audio_from(sound),
            "frame_rate": stream.frame_rate,
            "alpha": alpha,
        }
