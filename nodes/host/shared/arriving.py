"""LATENTs whose frames are still being made, in the threads that follow a stage.

Only this pack's stages that read frames as they come take one. All others end the thread, in which
nothing is done but to begin chunks ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ....core.tasks.finished import Arriving, NotWanted

if TYPE_CHECKING:
    from torch import Tensor

    from ....core.tasks.frame_stream import Frames
    from ..interface import Host


class ArrivingLatent(dict):
    """A LATENT without samples, but with those to come: parts that are LATENTs."""

    def __init__(self, arriving: Arriving):
        super().__init__()
        self.arriving = arriving

    def __getitem__(self, key: Any) -> Any:
        raise NotWanted

    def get(self, key: Any, default: Any = None) -> Any:
        raise NotWanted


class Latents(NamedTuple):
    """Latents of this shape [b t c h w], whole or as they come; frames() is called once."""

    shape: tuple[int, ...]
    frames: Callable[[], Frames]


def latents(latent: Mapping[str, Any], read: Callable[[Mapping[str, Any]], Tensor]) -> Latents:
    """The latents of a LATENT, by a host's `raw` or `to_core`."""
    if isinstance(latent, ArrivingLatent):
        arriving = latent.arriving
        return Latents(arriving.shape, lambda: map(read, arriving.follow()))
    whole = read(latent)
    return Latents(tuple(whole.shape), lambda: whole)


def passed_on(host: Host, shape: tuple[int, ...]) -> Arriving | None:
    """See `Workers.followed`."""
    return None if host.workers is None else host.workers.followed(shape)
