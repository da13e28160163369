"""Writing a video to a file: it can be interrupted, and reports the file of the frames so far."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from ....core.media.files import VideoStream
    from ....core.media.new_files import NewFile
    from ..interface import Host


def save_stream(
    host: Host, stream: VideoStream, file: NewFile, *, format: str, quality: int,
    metadata: Mapping[str, str], loop_count: int = 0,
) -> Path:  # fmt: skip
    """Write the video and return the finished file.

    A request to stop takes effect before each frame. If writing ends early, the user is told which
    file holds the frames so far; a file without any is removed.
    """
    watched = replace(stream, source=lambda: _watched(host, stream.source()))
    try:
        settings = {"format": format, "quality": quality, "loop_count": loop_count}
        return watched.save(file, metadata=metadata, **settings).path
    except BaseException:
        file.discard()
        left = file.left()
        if left is not None:
            host.report_unfinished(left, f"kept the frames so far in {left}")
        raise


def _watched(host: Host, chunks: Iterator[Tensor]) -> Iterator[Tensor]:
    """The same frames one by one, with a check for interruption before each."""
    for chunk in chunks:
        frames = chunk[0] if chunk.ndim == 5 and len(chunk) == 1 else chunk
        for frame in frames.split(1):
            host.check_interrupted()
            yield frame
        del chunk, frames, frame  # or they would stay alive while the next ones are made
