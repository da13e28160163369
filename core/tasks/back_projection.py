"""Iterated back-projection (Irani & Peleg 1991): a large video made consistent with a small one.

An upsampler invents what the small frames do not show, and an autoencoder loses some of what they
do. In each round, the residual after downscaling the large frames is upscaled and added back.
Detail finer than a small pixel averages out in that and stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ..graph.wording import counted
from ..networks.autoencoder import check_video

ROUNDS = 3  # of back-projection; each leaves at most about a third of the difference


def shrink(video: Tensor, factor: int = 4) -> Tensor:
    """Reduce a video [b, t, c, h, w] by averaging ``factor`` x ``factor`` pixels."""
    frames = F.avg_pool2d(rearrange(video, "b t c h w -> (b t) c h w"), factor)
    return rearrange(frames, "(b t) c h w -> b t c h w", b=len(video))


def enlarge(video: Tensor, factor: int = 4) -> Tensor:
    """Enlarge a video [b, t, c, h, w] bicubically; values may leave their range."""
    frames = rearrange(video, "b t c h w -> (b t) c h w")
    frames = F.interpolate(frames, scale_factor=factor, mode="bicubic", align_corners=False)
    return rearrange(frames, "(b t) c h w -> b t c h w", b=len(video))


def back_projected(decoded: Iterable[Tensor], low_res: Tensor) -> Iterator[Tensor]:
    """Yield the parts of ``decoded`` [b, t, 3, h, w] so that they shrink to ``low_res``.

    low_res: all frames [b, t, 3, h / f, w / f]. Raises ValueError when frames or sizes do not fit.
    """
    check_video(low_res, 3)
    start = 0
    for frames in decoded:
        stop = start + frames.shape[1]
        factor = enlargement(low_res, max(stop, low_res.shape[1]), *frames.shape[-2:])
        small = low_res[:, start:stop].to(frames)
        for _ in range(ROUNDS):
            frames = frames + enlarge(small - shrink(frames, factor), factor)
        yield frames
        start = stop


def enlargement(low_res: Tensor, frames: int, height: int, width: int) -> int:
    """By how much a video of ``frames`` frames is larger than the small one [b, t, 3, h, w] that it
    was made from; raises ValueError when it was not.
    """
    factor = width // low_res.shape[-1]
    if low_res.shape[1] != frames:
        raise ValueError(
            f"{counted(low_res.shape[1], 'low-resolution frame')} cannot belong to a video of "
            f"{counted(frames, 'frame')}"
        )
    if (height, width) != tuple(factor * side for side in low_res.shape[-2:]):
        raise ValueError(
            f"low-resolution frames of {low_res.shape[-1]}x{low_res.shape[-2]} cannot belong to a "
            f"video of {width}x{height}"
        )
    return factor
