"""Deflickering along motion (after Bonneel et al. 2015).

    o_t = x_t + w_t (warp(o_{t-1}) - x_t),    w_t = s exp(-|g_t - warp(g_{t-1})|^2 / (2 r^2))

Each frame x_t is pulled towards the previous output, warped along the motion between them, where
the guide g shows the same content in both. The guide is a version of the video with less flicker,
of any size, such as the frames before upscaling; by default the video guides itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .frame_stream import Frames, FrameStream
from .optical_flow import Flow, enlarged_flow, gradient_flow, warp


@dataclass(frozen=True, kw_only=True)
class Deflicker:
    """strength: s, from 0 (no change) to below 1. threshold: r, how far pixels in [0, 1] may differ
    before two frames count as different content. flow: between frames of the guide."""

    strength: float = 0.5
    threshold: float = 0.1
    flow: Flow = gradient_flow

    def __post_init__(self) -> None:
        if not 0 <= self.strength < 1:
            raise ValueError(f"strength {self.strength} must be at least 0 and below 1")
        if self.threshold <= 0:
            raise ValueError(f"threshold {self.threshold} must be above 0")

    def deflickered(self, video: Iterable[Tensor], guide: Frames | None = None) -> Iterator[Tensor]:
        """Yield the parts of `video` [b t 3 h w] with less flicker, one frame at a time.

        guide: all frames [b t 3 h' w'] or an iterable of chunks; ValueError if it is too short.
        """
        stream = None if guide is None else FrameStream(guide)
        at, before = 0, None
        for part in video:
            made = []
            for frame in part.unbind(1):
                shown = frame if stream is None else _guide_frame(stream, at).to(frame)
                if before is not None:
                    frame = self._pulled(frame, shown, *before)
                made.append(frame)
                before, at = (frame, shown), at + 1
            yield torch.stack(made, dim=1)

    def _pulled(self, frame: Tensor, guide: Tensor, last: Tensor, last_guide: Tensor) -> Tensor:
        """A frame [b 3 h w], pulled towards the last one as far as the guide allows."""
        flow = self.flow(guide, last_guide).to(guide)
        apart = (guide - warp(last_guide, flow)).square().mean(dim=1, keepdim=True) / 4
        weight = self.strength * torch.exp(-apart / (2 * self.threshold**2))
        size = frame.shape[-2:]
        if weight.shape[-2:] != size:
            weight = F.interpolate(weight, size=size, mode="bilinear", align_corners=False)
        return frame + weight * (warp(last, enlarged_flow(flow, size)) - frame)


def _guide_frame(stream: FrameStream, at: int) -> Tensor:
    """Frame `at` of the guide [b 3 h w]; the frames before it are released."""
    if not stream.read_until(at + 1):
        raise ValueError(f"the guide has {stream.stop} frames, but the video has more")
    found = stream.frames(at, at + 1)[:, 0]
    stream.release(at)
    return found
