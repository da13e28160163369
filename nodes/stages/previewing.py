"""A small preview video of the frames that Load Video loaded, for the browser."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn.functional import interpolate

from ..choices import KEEP_ALPHA, RENDERED, VIDEO_ONLY
from .loading import Excerpt
from .media import FileSettings, images_stream, save_video

if TYPE_CHECKING:
    from ...core.media.files import VideoStream
    from ..host.interface import Host, Wire

LONGER_SIDE = 256  # pixels
MOST_FRAMES = 480
QUALITY = 28


def preview_selection(
    host: Host, file: str, excerpt: Excerpt, loaded: Sequence[Wire]
) -> Path | None:
    """A temporary, downscaled video of the result of `load_video`, of at most MOST_FRAMES frames.

    None if the host shows no previews, and for whole files, which frontends play themselves. Frames
    in memory are taken from there; with load set to video only, just the shown ones are read.
    """
    if not host.shows_previews or (excerpt.is_whole and file not in RENDERED):
        return None
    stream = _as_loaded(host, excerpt, loaded).opaque()
    shown = stream if stream.frames <= MOST_FRAMES else stream.part(0, MOST_FRAMES)
    settings = FileSettings(quality=QUALITY)
    return save_video(host, _smaller(shown), "preview/selection", settings, {}, temp=True)


def _as_loaded(host: Host, excerpt: Excerpt, loaded: Sequence[Wire]) -> VideoStream:
    images, rate, _, _, mask, video = loaded
    stream = host.stream(video)
    if excerpt.load == VIDEO_ONLY:
        return stream
    frames = images_stream(host, images, rate, mask if excerpt.alpha == KEEP_ALPHA else None)
    return replace(frames, audio=stream.audio)


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
