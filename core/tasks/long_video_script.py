"""A script for long videos that a model was published with, where it is not one of the tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class LongVideoScript:
    """Lengths in frames of the model's latents.

    window, context, passes: what it works with, and nothing else. made: how long a video it makes
    where one of so many frames is asked for. run: yields its latents [b t c h w]; called as
    :func:`.long_video.hierarchical`, with `between` in place of `how`.
    """

    window: int
    context: int
    passes: int
    made: Callable[[int], int]
    run: Callable[..., Iterator[Tensor]]
