"""LATENTs that are read as a task needs them: those that lie in a file, and those whose frames are
still being made, in the threads that follow a stage.

Only this pack's stages that read frames as they come take one of the latter. All others end the
thread, in which nothing is done but to begin chunks ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from ....core.tasks.finished import Arriving, NotWanted
from ....core.tasks.gathering import in_parts, is_mapped
from ..tensors import latents_of

if TYPE_CHECKING:
    from ....core.tasks.frame_stream import Frames
    from ..interface import Host


PART = 16  # frames that are read together


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
    """Latents of this shape [b t c h w], whole or as they come; frames() is called once of those
    that are still being made."""

    shape: tuple[int, ...]
    frames: Callable[[], Frames]

    def video(self, number: int) -> Latents:
        """One of the b videos, [1 t c h w]."""

        def frames() -> Frames:
            found = self.frames()
            if isinstance(found, Tensor):
                return found[number : number + 1]
            return (part[number : number + 1] for part in found)

        return Latents((1, *self.shape[1:]), frames)


Read = Callable[[Mapping[str, Any]], Tensor]


def latents(latent: Mapping[str, Any], read: Read) -> Latents:
    """The latents of a LATENT, by a host's `raw` or `to_core`."""
    if isinstance(latent, ArrivingLatent):
        arriving = latent.arriving
        return Latents(arriving.shape, lambda: map(read, arriving.follow()))
    return finished_latents(latent, read)


def finished_latents(latent: Mapping[str, Any], read: Read) -> Latents:
    """As `latents`, of a LATENT that is all there."""
    if isinstance(latent, Mapping) and is_mapped(latent.get("samples")):
        return _of_file(latent, read)
    whole = read(latent)
    return Latents(tuple(whole.shape), lambda: whole)


def _of_file(latent: Mapping[str, Any], read: Read) -> Latents:
    samples = latent["samples"]
    axis = 0 if samples.ndim == 4 else 2

    def parts() -> Iterator[Tensor]:
        for part in in_parts(samples, PART, axis=axis):
            yield read({**latent, "samples": part})

    latents_of(latent)  # What can be wrong with all of them is said before any is used.
    first = next(parts())
    return Latents((first.shape[0], samples.shape[axis], *first.shape[2:]), parts)


def passed_on(host: Host, shape: tuple[int, ...]) -> Arriving | None:
    """See `Workers.followed`."""
    return None if host.workers is None else host.workers.followed(shape)
