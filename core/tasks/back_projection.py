"""Iterated back-projection (Irani & Peleg 1991): makes a large video consistent with a small one.

An upsampler invents what the small frames do not show, and an autoencoder loses some of what they
do. In each round, the residual after downscaling the large frames is upscaled and added back.
Detail finer than a small pixel averages out in the downscaling, and is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ..graph.wording import counted
from ..networks.video_shape import check_video
from .frame_stream import Frames, FrameStream

ROUNDS = 3  # of back-projection; each leaves at most about a third of the difference


def shrink(video: Tensor, factor: int = 4) -> Tensor:
    """Downscale a video [b, t, c, h, w] by averaging ``factor`` x ``factor`` pixels."""
    frames = F.avg_pool2d(rearrange(video, "b t c h w -> (b t) c h w"), factor)
    return rearrange(frames, "(b t) c h w -> b t c h w", b=len(video))


def enlarge(video: Tensor, factor: int = 4) -> Tensor:
    """Upscale a video [b, t, c, h, w] bicubically; values may leave their range."""
    frames = rearrange(video, "b t c h w -> (b t) c h w")
    frames = F.interpolate(frames, scale_factor=factor, mode="bicubic", align_corners=False)
    return rearrange(frames, "(b t) c h w -> b t c h w", b=len(video))


class Extent(NamedTuple):
    """Length and size of a video."""

    frames: int
    height: int
    width: int


def back_projected(decoded: Iterable[Tensor], low_res: Frames) -> Iterator[Tensor]:
    """Yield the parts of ``decoded`` [b, t, 3, h, w], corrected to downscale to ``low_res``.

    low_res: all frames [b, t, 3, h / f, w / f], or an iterable of chunks of them. Raises ValueError
    when the numbers of frames or the sizes do not match.
    """
    if isinstance(low_res, Tensor):
        check_video(low_res, 3)
    stream, start = FrameStream(low_res), 0
    for frames in decoded:
        stop = start + frames.shape[1]
        stream.read_until(stop)
        small = stream.frames(start, min(stop, stream.stop)).to(frames)
        factor = enlargement(
            Extent(min(stop, stream.stop), *small.shape[-2:]), Extent(stop, *frames.shape[-2:])
        )
        for _ in range(ROUNDS):
            frames = frames + enlarge(small - shrink(frames, factor), factor)
        yield frames
        start = stop
        stream.release(start)


def enlargement(small: Extent, large: Extent) -> int:
    """The factor by which a video is larger than the small one it was made from; ValueError if it
    cannot have been."""
    factor = large.width // small.width
    if small.frames != large.frames:
        raise ValueError(
            f"{counted(small.frames, 'low-resolution frame')} cannot belong to a video of "
            f"{counted(large.frames, 'frame')}"
        )
    if (large.height, large.width) != (factor * small.height, factor * small.width):
        raise ValueError(
            f"low-resolution frames of {small.width}x{small.height} cannot belong to a "
            f"video of {large.width}x{large.height}"
        )
    return factor
