"""The frames that Load Video will load, as a small video for the browser."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn.functional import interpolate

from .loading import Excerpt, selected_stream
from .media import FileSettings, save_video

if TYPE_CHECKING:
    from ...core.media.files import VideoStream
    from ..host.interface import Host

LONGER_SIDE = 256  # pixels
MOST_FRAMES = 480
QUALITY = 28


def preview_selection(host: Host, file: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Write a temporary video of the frames that these settings choose, in their order and at their
    rate, smaller and at most MOST_FRAMES of them; returns its path and what is chosen.

    Errors are those of loading.
    """
    stream = selected_stream(host, file, Excerpt(**settings)).opaque()
    facts = {"frames": stream.frames, "frame_rate": float(stream.frame_rate),
             "width": stream.width, "height": stream.height}  # fmt: skip
    shown = stream if stream.frames <= MOST_FRAMES else stream.part(0, MOST_FRAMES)
    preview = _smaller(shown)
    path = save_video(
        host, preview, "preview/selection", FileSettings(quality=QUALITY), {}, temp=True
    )
    return facts | {"path": path, "shown": shown.frames}


def _smaller(stream: VideoStream) -> VideoStream:
    factor = LONGER_SIDE / max(stream.width, stream.height)
    if factor >= 1:
        return stream
    width, height = (
        max(2, round(side * factor) // 2 * 2) for side in (stream.width, stream.height)
    )

    def frames() -> Iterator[Tensor]:
        for chunk in stream.chunks():
            yield interpolate(chunk, (height, width), mode="area")

    return replace(stream, source=frames, width=width, height=height)
