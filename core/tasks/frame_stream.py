"""Frames as a stream: a task reads only as far ahead as it needs, and releases what it has used."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from ..networks.video_shape import check_video

Frames = Tensor | Iterable[Tensor]
"""A video [b t c h w], or an iterable of its consecutive chunks."""


class FrameStream:
    """Access by absolute frame number to the frames of a video that are currently held."""

    def __init__(self, source: Frames):
        self._chunks: Iterator[Tensor] = iter([source] if isinstance(source, Tensor) else source)
        self._held: deque[Tensor] = deque()  # one [b c h w] per frame
        self._first = 0
        self._wanted = 0

    @property
    def stop(self) -> int:
        """One more than the last frame that has been read."""
        return self._first + len(self._held)

    def read_until(self, stop: int) -> bool:
        """Read until `stop` frames have arrived; False if the video ends before."""
        while self.stop < stop:
            chunk = next(self._chunks, None)
            if chunk is None:
                return False
            self._add(chunk)
        return True

    def frames(self, start: int, stop: int) -> Tensor:
        """Frames start .. stop - 1, [b t c h w]; ValueError unless all of them are held."""
        if not self._first <= start < stop <= self.stop:
            raise ValueError(
                f"Frames {start} to {stop - 1} were requested, but only "
                f"{self._first} to {self.stop - 1} are held."
            )
        return torch.stack(
            [self._held[k] for k in range(start - self._first, stop - self._first)], dim=1
        )

    def release(self, before: int) -> None:
        """Release all frames before `before`, including those that have not arrived yet."""
        self._wanted = max(self._wanted, before)
        while self._first < self._wanted and self._held:
            self._held.popleft()
            self._first += 1

    def _add(self, chunk: Tensor) -> None:
        check_video(chunk)
        if self._held and self._held[0].shape != chunk[:, 0].shape:
            raise ValueError(
                f"A chunk of frames of shape {list(chunk[:, 0].shape)} follows "
                f"frames of shape {list(self._held[0].shape)}."
            )
        self._held.extend(chunk.unbind(1))
        self.release(self._wanted)


def check_finite(video: Tensor, first: int = 0) -> Tensor:
    """Return the video; ValueError naming the first frame with infinite values or NaN."""
    bad = ~torch.isfinite(video)
    if bool(bad.any()):
        frame = first + int(bad.any(0).flatten(1).any(1).nonzero()[0])
        raise ValueError(
            f"{int(bad.sum())} of {video.numel()} values are infinite or not a number, "
            f"the first of them in frame {frame}."
        )
    return video
