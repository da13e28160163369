"""LATENTs that are read part by part: those in memory-mapped files, and those whose frames are
still being made, in the threads that follow a stage.

Only this pack's streaming stages accept the latter. Any other node that reads one ends its thread,
which loses nothing: such threads only begin chunks ahead of time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from ....core.tasks.finished import Abandoned, Arriving
from ....core.tasks.gathering import in_parts, is_mapped
from ..tensors import latents_of

if TYPE_CHECKING:
    from ....core.tasks.frame_stream import Frames
    from ..interface import Host


PART = 16  # frames read at a time


class ArrivingLatent(dict):
    """A LATENT whose samples are still to come, in parts that are LATENTs themselves."""

    def __init__(self, arriving: Arriving):
        super().__init__()
        self.arriving = arriving

    def __getitem__(self, key: Any) -> Any:
        raise Abandoned

    def get(self, key: Any, default: Any = None) -> Any:
        raise Abandoned


class Latents(NamedTuple):
    """Latents of this shape [b t c h w], whole or in parts; for those that are still being made,
    frames() can only be called once."""

    shape: tuple[int, ...]
    frames: Callable[[], Frames]

    def video(self, number: int) -> Latents:
        """Video `number` of the b videos, [1 t c h w]."""

        def frames() -> Frames:
            found = self.frames()
            if isinstance(found, Tensor):
                return found[number : number + 1]
            return (part[number : number + 1] for part in found)

        return Latents((1, *self.shape[1:]), frames)


Read = Callable[[Mapping[str, Any]], Tensor]


def latents(latent: Mapping[str, Any], read: Read) -> Latents:
    """The latents of a LATENT, as `read` returns them: a host's `raw` or `to_core`."""
    if isinstance(latent, ArrivingLatent):
        arriving = latent.arriving
        return Latents(arriving.shape, lambda: map(read, arriving.follow()))
    return finished_latents(latent, read)


def finished_latents(latent: Mapping[str, Any], read: Read) -> Latents:
    """As `latents`, for a LATENT that is complete."""
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

    latents_of(latent)  # Check all of them before any is used.
    first = next(parts())
    return Latents((first.shape[0], samples.shape[axis], *first.shape[2:]), parts)


def passed_on(host: Host, shape: tuple[int, ...]) -> Arriving | None:
    """See `Workers.followed`."""
    return None if host.workers is None else host.workers.followed(shape)
