"""Window schedules: the windows of each sampling step, selected by name.

static    the same windows at every step
uniform   windows that start elsewhere at every step, also with strides 2, 4, ...
looped    the same on a circle: windows run on from the last frame to the first
batched   consecutive windows without overlap
views     static windows inside the temporal attention; the network sees all frames together
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from ..networks.layers.views import Views
from .windows import (
    FUSE_WEIGHTS,
    Window,
    covering,
    disjoint_windows,
    fuse_weights,
    looped_windows,
    sliding_windows,
    turned_window,
    uniform_windows,
)


@dataclass(frozen=True, kw_only=True)
class WindowLayout:
    """How windows are laid over a video and fused.

    schedule: a key of SCHEDULES. window, overlap: in frames. strides: the most strides to use of 1,
    2, 4, ... fuse: a key of windows.FUSE_WEIGHTS. Raises ValueError for values that do not fit.
    """

    schedule: str = "static"
    window: int = 16
    overlap: int = 4
    strides: int = 1
    fuse: str = "pyramid"

    def __post_init__(self) -> None:
        for what, value, known in (
            ("window schedule", self.schedule, SCHEDULES), ("fuse method", self.fuse, FUSE_WEIGHTS),
        ):  # fmt: skip
            if value not in known:
                raise ValueError(f"Unknown {what} {value!r}; known are {', '.join(known)}.")
        if self.strides < 1:
            raise ValueError(f"Expected at least 1 stride, got {self.strides}.")
        if not 0 <= self.overlap < self.window:
            raise ValueError(
                f"overlap {self.overlap} must be smaller than window {self.window} and not below 0."
            )

    @property
    def is_inside(self) -> bool:
        """Whether the windows are those of temporal attention instead of the network."""
        return self.schedule == "views"

    def within(self, frames: int) -> tuple[int, int]:
        """(window, overlap) on a video of `frames` frames, which may be shorter than the window."""
        window = min(self.window, frames)
        return window, min(self.overlap, window - 1)

    def windows(self, frames: int, step: int = 0) -> list[Window]:
        """The windows of sampling step `step`, which contain exactly the frames 0 .. frames - 1."""
        window, overlap = self.within(frames)
        return covering(
            SCHEDULES[self.schedule](frames, window, overlap, self.strides, step), frames
        )

    def weights(self, plan: Sequence[Window], frames: int) -> list[Tensor]:
        """A weight for every frame of every window of the plan."""
        return fuse_weights(self.fuse, plan, frames, self.within(frames)[1])

    def views(self, frames: int) -> Views:
        """The windows of step 0 for temporal attention."""
        plan = self.windows(frames)
        weights = tuple(tuple(one.tolist()) for one in self.weights(plan, frames))
        return Views(tuple(plan), weights)


def _static(frames: int, window: int, overlap: int, strides: int, step: int) -> list[Window]:
    return sliding_windows(frames, window, overlap)


def _uniform(frames: int, window: int, overlap: int, strides: int, step: int) -> list[Window]:
    return uniform_windows(frames, window, overlap, octaves=strides, step=step)


def _looped(frames: int, window: int, overlap: int, strides: int, step: int) -> list[Window]:
    """A video that fits one window is rotated on the circle from step to step, so that its seam
    moves. Windows that would contain a frame twice are left out."""
    if frames <= window:
        return [turned_window(frames, step)]
    plan = looped_windows(frames, window, overlap, octaves=strides, step=step)
    return [one for one in plan if len(set(one)) == len(one)]


def _batched(frames: int, window: int, overlap: int, strides: int, step: int) -> list[Window]:
    return disjoint_windows(frames, window)


SCHEDULES: dict[str, Callable[[int, int, int, int, int], list[Window]]] = {
    "static": _static,
    "uniform": _uniform,
    "looped": _looped,
    "batched": _batched,
    "views": _static,
}
