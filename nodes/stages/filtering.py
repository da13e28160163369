"""Filters of a VIDEO, applied chunk by chunk while it is saved."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

from ...core.graph.wording import counted
from ...core.tasks.back_projection import Extent, back_projected, enlargement
from ...core.tasks.deflicker import Deflicker
from ...core.tasks.keyframe_residual import with_keyframe_residual
from ...core.tasks.optical_flow import GradientFlow
from .media import frames_stream

if TYPE_CHECKING:
    from ..host.interface import Host, Wire


def restore_keyframes(host: Host, video: Wire, key_frames: Tensor, key_spacing: int) -> Wire:
    """Restore the detail of the original keyframes, one every `key_spacing` frames."""
    stream, keys = host.stream(video), host.pixels(key_frames)
    _check_keys(keys, stream.frames, stream.height, stream.width, key_spacing)
    return _filtered(host, video, lambda parts: with_keyframe_residual(parts, keys, key_spacing))


def back_project(host: Host, video: Wire, images: Tensor | Wire) -> Wire:
    """Make the VIDEO consistent with low-resolution frames, an IMAGE or a VIDEO: downscaled, it
    gives these frames."""
    stream, small = host.stream(video), frames_stream(host, images)
    enlargement(*(Extent(one.frames, one.height, one.width) for one in (small, stream)))
    return _filtered(
        host, video, lambda parts: back_projected(parts, (one[None] for one in small.chunks()))
    )


def deflicker(
    host: Host, video: Wire, guide: Tensor | Wire | None, flow: Wire | None,
    settings: dict[str, float],
) -> Wire:  # fmt: skip
    """Reduce flicker along the motion of a VIDEO.

    guide: an IMAGE or a VIDEO of any size, by default the video itself. flow: an OPTICAL_FLOW, by
    default estimated from gradients. settings: `strength` and `threshold` of :class:`.Deflicker`.
    """
    filter = Deflicker(**settings, **({} if flow is None else {"flow": host.flow(flow)}))
    if guide is None:
        return _filtered(host, video, filter.deflickered)
    stream, shown = host.stream(video), frames_stream(host, guide)
    if shown.frames != stream.frames:
        raise ValueError(
            f"the guide has {counted(shown.frames, 'frame')}, the video {stream.frames}: both must "
            "have the same"
        )
    return _filtered(
        host, video, lambda parts: filter.deflickered(parts, (one[None] for one in shown.chunks()))
    )


def optical_flow(host: Host, radius: float) -> Wire:
    """An OPTICAL_FLOW that estimates motion from gradients."""
    return host.optical_flow(GradientFlow(radius))


def _filtered(
    host: Host, video: Wire, change: Callable[[Iterator[Tensor]], Iterator[Tensor]]
) -> Wire:
    """The VIDEO whose frames pass through `change`, in parts [1 t 3 h w]."""
    stream = host.stream(video).opaque()

    def frames() -> Iterator[Tensor]:
        return (part[0] for part in change(chunk[None] for chunk in stream.chunks()))

    return host.video(replace(stream, source=frames))


def _check_keys(keys: Tensor, frames: int, height: int, width: int, spacing: int) -> None:
    if keys.shape[-2:] != (height, width):
        raise ValueError(
            f"the keyframes are {keys.shape[-1]}x{keys.shape[-2]}, the video is {width}x{height}"
        )
    if frames != spacing * (keys.shape[1] - 1) + 1:
        raise ValueError(
            f"{counted(keys.shape[1], 'keyframe')} every {counted(spacing, 'frame')} belong to "
            f"{counted(spacing * (keys.shape[1] - 1) + 1, 'frame')}, not to {frames}"
        )
