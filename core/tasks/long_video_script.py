"""A model's published script for long videos, where it is not one of the tasks here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class LongVideoScript:
    """Lengths are in frames of the model's latents.

    window, context, passes: the only values that the script works with. made: length of the video
    that it makes when so many frames are requested. run: yields latents [b t c h w]; called like
    :func:`.long_video.hierarchical`, with `between` in place of `settings`.
    """

    window: int
    context: int
    passes: int
    made: Callable[[int], int]
    run: Callable[..., Iterator[Tensor]]
