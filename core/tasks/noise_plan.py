"""Strategies as plans: which frames the model sees together at every step, and the noise level of
each frame after it.

A plan is a matrix [rows + 1, frames] of sigma over the model's calls, as in Diffusion Forcing (Chen
et al. 2024). It can be plotted, and :meth:`NoisePlan.check` proves that every frame is taken down
to the last level, one level at a time. The tasks are tested against these plans.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .interpolation import FACTOR
from .long_video import key_frames
from .rolling import Rolling
from .window_schedules import WindowLayout
from .windows import Window, prediction_chunks


@dataclass(frozen=True)
class Call:
    """Frames that the model sees together, by number. Those in `updated` are taken one level down,
    the others are given or context. Frames with numbers outside of the video are discarded."""

    seen: Window
    updated: Window


@dataclass(frozen=True, eq=False)
class NoisePlan:
    """sigmas: [steps + 1], falling. taken: [rows + 1, frames] steps that each frame has taken
    before the first row and after every row. calls: those of each row. setting_up: frame
    evaluations spent before the first row, on what the plan starts from."""

    sigmas: Tensor
    taken: Tensor
    calls: tuple[tuple[Call, ...], ...]
    setting_up: int = 0

    @property
    def levels(self) -> Tensor:
        """[rows + 1, frames] sigma."""
        return self.sigmas[self.taken]

    @property
    def frames(self) -> int:
        return self.taken.shape[1]

    @property
    def evaluations(self) -> int:
        """Number of single-frame evaluations of the model, those of setting up included."""
        return self.setting_up + sum(len(one.seen) for row in self.calls for one in row)

    @property
    def together(self) -> int:
        """The most frames that the model sees together."""
        return max(len(one.seen) for row in self.calls for one in row)

    def check(self) -> None:
        """Raise ValueError for the first frame that rises, skips a level, changes without being
        updated, or does not reach the last level."""
        steps = self.taken.diff(dim=0)
        for row, (change, calls) in enumerate(zip(steps, self.calls, strict=True)):
            moved = {frame for one in calls for frame in one.updated}
            for frame, by in enumerate(change.tolist()):
                if by not in (0, 1) or (by == 1) != (frame in moved):
                    raise ValueError(
                        f"Frame {frame} takes {by} levels in row {row}, where it is "
                        f"{'' if frame in moved else 'not '}updated."
                    )
        last = len(self.sigmas) - 1
        for frame, taken in enumerate(self.taken[-1].tolist()):
            if taken != last:
                raise ValueError(
                    f"Frame {frame} ends after {taken} of {last} steps, at sigma "
                    f"{float(self.sigmas[taken]):.4g}."
                )


def planned(
    frames: int,
    sigmas: Tensor,
    rows: Iterable[Sequence[Call]],
    taken_before: Sequence[int] | None = None,
    setting_up: int = 0,
) -> NoisePlan:
    """The plan of these rows of calls. taken_before: steps of each frame, None = 0."""
    taken = [list(taken_before or [0] * frames)]
    calls = []
    for row in rows:
        moved = {frame for one in row for frame in one.updated}
        taken.append([k + (frame in moved) for frame, k in enumerate(taken[-1])])
        calls.append(tuple(row))
    return NoisePlan(sigmas, torch.tensor(taken), tuple(calls), setting_up)


# --------------------------------------------------------------------------------------------------
# The strategies.


def single_plan(frames: int, sigmas: Tensor) -> NoisePlan:
    """All frames together."""
    return planned(frames, sigmas, _steps(sigmas, _whole(range(frames))))


def sliding_plan(frames: int, sigmas: Tensor, layout: WindowLayout) -> NoisePlan:
    """All frames one level down in every row, seen in windows or in attention's views of them."""
    if layout.is_inside:
        return single_plan(frames, sigmas)
    rows = (
        [_whole(window) for window in sorted(layout.windows(frames, step))]
        for step in range(len(sigmas) - 1)
    )
    return planned(frames, sigmas, rows)


def prediction_plan(frames: int, sigmas: Tensor, window: int, context: int) -> NoisePlan:
    """Segment after segment, each seen together with the last frames before it."""
    rows = [row for call in _predicted(frames, window, context) for row in _steps(sigmas, call)]
    return planned(frames, sigmas, rows)


def hierarchical_plan(
    frames: int, sigmas: Tensor, window: int, context: int, *, passes: int = 1, keys: int = 5
) -> NoisePlan:
    """Key frames by prediction, then the frames between them, `keys` key frames at a time.

    The task interpolates as soon as it can; here interpolation follows after all key frames.
    """
    calls = []
    count, spacing = key_frames(frames, passes), FACTOR**passes
    for one in _predicted(count, window, context):
        calls.append(Call(*(tuple(f * spacing for f in part) for part in (one.seen, one.updated))))
    for _ in range(passes):
        calls += _between(count, spacing, keys)
        count, spacing = (count - 1) * FACTOR + 1, spacing // FACTOR
    rows = [row for call in calls for row in _steps(sigmas, call)]
    return planned(frames, sigmas, rows)


def rolling_plan(frames: int, sigmas: Tensor, settings: Rolling) -> NoisePlan:
    """A queue of frames at rising levels; each row takes all of them one level down.

    The first frames start inside the queue, from a segment that was sampled before.
    """
    steps = len(sigmas) - 1
    warm_up, windows = settings.warm_up(steps), settings.windows(steps)
    taken_before = [steps - min(warm_up + frame + 1, steps) for frame in range(frames)]
    rows = []
    for left in range(frames + warm_up):
        first = left - settings.front - warm_up
        rows.append(
            [Call(_moved(seen, first), _moved(updated, first)) for seen, updated in windows]
        )
    return planned(frames, sigmas, rows, taken_before, setting_up=steps * settings.window)


def _steps(sigmas: Tensor, call: Call) -> list[list[Call]]:
    return [[call]] * (len(sigmas) - 1)


def _whole(window: Iterable[int]) -> Call:
    return Call(tuple(window), tuple(window))


def _predicted(frames: int, window: int, context: int) -> list[Call]:
    return [
        Call(tuple(range(one.start, one.stop)), tuple(one.new))
        for one in prediction_chunks(frames, window, context)
    ]


def _between(count: int, spacing: int, keys: int) -> list[Call]:
    """The windows of one pass over `count` key frames that lie `spacing` frames apart."""
    calls, fine = [], spacing // FACTOR
    for first in range(0, max(count - 1, 0), keys - 1):
        last = min(first + keys, count) - 1
        seen = range(first * spacing, last * spacing + 1, fine)
        calls.append(Call(tuple(seen), tuple(f for f in seen if f % spacing)))
    return calls


def _moved(positions: range, by: int) -> Window:
    return tuple(position + by for position in positions)
