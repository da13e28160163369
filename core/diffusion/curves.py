"""Strengths that vary over the frames of a video and the steps of a sampler.

A :class:`Curve` is the product of a number, lines over frames or steps, and masks. Frames are
absolute numbers in the video, whatever the window; steps are those of the running sampler.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from itertools import groupby
from math import hypot, isfinite
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Interpolation = Literal["linear", "hold", "smooth"]
INTERPOLATIONS: tuple[Interpolation, ...] = ("linear", "hold", "smooth")
Axis = Literal["frames", "steps"]
AXES: tuple[Axis, ...] = ("frames", "steps")
Point = tuple[float, float]

Amount = float | Tensor
"""A number, or one per frame and position: [t, 1 or h, 1 or w]."""


class StepAt(NamedTuple):
    """Step `index` (from 0) of a sampler's `total` steps."""

    index: int
    total: int

    @property
    def fraction(self) -> float:
        """0 at the first step, 1 at the last; 0 for a single one."""
        return self.index / (self.total - 1) if self.total > 1 else 0.0


FIRST_STEP = StepAt(0, 1)
current_step: ContextVar[StepAt | None] = ContextVar("current_step", default=None)
"""The running sampler's current step; None outside a sampler."""


def step_of(sigma: float, levels: Sequence[float]) -> StepAt:
    """The step in which a sampler over `levels` [steps + 1] evaluates at `sigma`: the last one
    that starts at or above it, so a sigma between two levels belongs to the higher one."""
    steps = len(levels) - 1
    started = sum(level >= sigma * (1 - 1e-5) for level in levels[:-1])
    return StepAt(max(started - 1, 0), max(steps, 1))


@dataclass(frozen=True)
class Line:
    """y as a function of x through points, constant before the first and after the last.

    points: in order of x. Two points at the same x are a jump: the first is the value at x, the
    second the value from which the line continues. interpolation: "linear", "hold" (each value
    until the next point) or "smooth" (monotone cubic, Fritsch & Carlson 1980). over: "frames", x is
    an absolute frame number; "steps", x is 0 at the sampler's first step and 1 at its last.
    """

    points: tuple[Point, ...]
    interpolation: Interpolation = "linear"
    over: Axis = "steps"

    def __post_init__(self) -> None:
        points = tuple((float(x), float(y)) for x, y in self.points)
        object.__setattr__(self, "points", points)
        if not points:
            raise ValueError("a curve needs at least 1 point, got 0")
        if self.interpolation not in INTERPOLATIONS or self.over not in AXES:
            raise ValueError(
                f"a curve is {', '.join(INTERPOLATIONS)} over {' or '.join(AXES)}, "
                f"not {self.interpolation!r} over {self.over!r}"
            )
        if not all(isfinite(value) for point in points for value in point):
            raise ValueError(f"the points of a curve must be finite numbers, got {points}")
        if list(points) != sorted(points, key=lambda point: point[0]):
            raise ValueError(f"the points of a curve must be in order of x, got {points}")
        for x, same in groupby(points, key=lambda point: point[0]):
            count = len(list(same))
            if count > 2:
                raise ValueError(
                    f"{count} points of a curve are at {x:g}: at most 2 can be, the value there "
                    "and the value after it"
                )

    @property
    def constant(self) -> float | None:
        """The value if it is the same everywhere, else None."""
        values = {y for _, y in self.points}
        return self.points[0][1] if len(values) == 1 else None

    def __call__(self, x: float) -> float:
        """The value at x."""
        points = self.points
        # The first point at or after x; at a jump, the first of the two.
        k = bisect_left(points, x, key=lambda point: point[0])
        if k == len(points):
            return points[-1][1]
        if points[k][0] == x or k == 0:
            return points[k][1]
        (x0, y0), (x1, y1) = points[k - 1], points[k]
        if self.interpolation == "hold":
            return y0
        t = (x - x0) / (x1 - x0)
        # Each form is y0 plus a term that vanishes for y1 = y0, so level pieces are exact.
        if self.interpolation == "linear":
            return y0 + t * (y1 - y0)
        slope0, slope1 = self._slopes(k - 1)
        bend = t * (1 - t) * ((1 - t) * slope0 - t * slope1) * (x1 - x0)
        return y0 + t * t * (3 - 2 * t) * (y1 - y0) + bend

    def _slopes(self, k: int) -> tuple[float, float]:
        """Slopes at both ends of the piece after point k: the mean of the secants on either side,
        0 at an extremum or next to a level piece, limited so that every piece is monotone."""
        tangents = [self._tangent(j) for j in range(len(self.points))]
        for j in range(len(self.points) - 1):
            secant = self._secant(j)
            if secant == 0:
                tangents[j] = tangents[j + 1] = 0.0
                continue
            steepness = hypot(tangents[j] / secant, tangents[j + 1] / secant)
            if steepness > 3:
                tangents[j : j + 2] = [3 * one / steepness for one in tangents[j : j + 2]]
        return tangents[k], tangents[k + 1]

    def _secant(self, j: int) -> float:
        (x0, y0), (x1, y1) = self.points[j : j + 2]
        return (y1 - y0) / (x1 - x0) if x1 > x0 else 0.0

    def _tangent(self, j: int) -> float:
        if len(self.points) < 2:
            return 0.0
        before, after = self._secant(max(j - 1, 0)), self._secant(min(j, len(self.points) - 2))
        return (before + after) / 2 if before * after > 0 else 0.0


class LocalCurve(NamedTuple):
    """A curve for some places of a network, given by name prefixes."""

    places: tuple[str, ...]
    curve: Curve


def is_prefix(name: str, place: str) -> bool:
    """Whether `name` is the place or a prefix of it: "up" and "up.1" are, of "up.1.attn.0"."""
    return place == name or place.startswith(name + ".")


@dataclass(frozen=True, eq=False)
class Curve:
    """The product of `factor`, `lines` and `masks`, and of further curves at some places of a
    network.

    masks: [n, h, w] each, of any size, one per absolute frame number; the last one repeats. local:
    curves that apply at their places only; :meth:`at_place` resolves them.
    """

    factor: float = 1.0
    lines: tuple[Line, ...] = ()
    masks: tuple[Tensor, ...] = ()
    local: tuple[LocalCurve, ...] = ()

    @property
    def constant(self) -> float | None:
        """The value if it is the same for all frames, steps, positions and places, else None."""
        values = [line.constant for line in self.lines]
        if self.factor == 0:
            return 0.0
        if self.masks or self.local or None in values:
            return None
        product = self.factor
        for value in values:
            product *= value
        return product

    @property
    def reads_steps(self) -> bool:
        """Whether it varies over the steps of a sampler."""
        if any(one.curve.reads_steps for one in self.local):
            return True
        return any(line.over == "steps" and line.constant is None for line in self.lines)

    def __mul__(self, other: float | Curve) -> Curve:
        if isinstance(other, Curve):
            lines, masks = (*self.lines, *other.lines), (*self.masks, *other.masks)
            local = (*self.local, *other.local)
            return Curve(self.factor * other.factor, lines, masks, local)
        return replace(self, factor=self.factor * other)

    __rmul__ = __mul__

    def within(self, places: Sequence[str]) -> Curve:
        """This curve at these places, 1 elsewhere; its local curves keep their own places."""
        own = LocalCurve(tuple(places), replace(self, local=()))
        return Curve(local=(own, *self.local))

    def at_place(self, place: str) -> Curve:
        """The curve at one place, without local parts."""
        found = replace(self, local=()) if self.local else self
        for places, curve in self.local:
            if any(is_prefix(name, place) for name in places):
                found = found * curve
        return found

    @property
    def places(self) -> tuple[str, ...]:
        """The place names (prefixes) of all local curves."""
        return tuple(name for places, _ in self.local for name in places)

    def at(self, frame: int, step: StepAt = FIRST_STEP) -> float:
        """The strength of a frame at a step, ignoring masks."""
        value = self.factor
        for line in self.lines:
            value *= line(frame if line.over == "frames" else step.fraction)
        return value

    def amount(
        self,
        frames: Sequence[int],
        step: StepAt | None = None,
        size: tuple[int, int] | None = None,
    ) -> Amount:
        """The strength of these frames at a step: a number if it is the same for all of them, else
        [t, 1, 1], or with masks [t, h, w] for `size` (h, w).

        Raises ValueError for masks without a size, and for a curve that has local parts.
        """
        if self.local:
            raise ValueError(f"the curve is for {', '.join(self.places)}, but no place was named")
        if not self.lines and not self.masks:
            return self.factor
        values = [self.at(frame, step or FIRST_STEP) for frame in frames]
        if not any(values):
            return 0.0
        if not self.masks and len(set(values)) == 1:
            return values[0]
        amount = torch.tensor(values)[:, None, None]
        for mask in self.masks:
            amount = amount * self._resized(mask, frames, size)
        return amount

    @staticmethod
    def _resized(mask: Tensor, frames: Sequence[int], size: tuple[int, int] | None) -> Tensor:
        if size is None:
            raise ValueError("a mask was given for something without height and width")
        numbers = [min(max(frame, 0), len(mask) - 1) for frame in frames]
        picture = mask.detach().float().cpu()[numbers]
        if picture.shape[-2:] == size:
            return picture
        shape = dict(size=size, mode="bilinear", antialias=True)
        return F.interpolate(picture[:, None], **shape)[:, 0]


FULL = Curve()


def per_frame(values: Sequence[float]) -> Curve:
    """One number per frame; the last one repeats."""
    if len(values) == 1:
        return Curve(float(values[0]))
    return Curve(lines=(Line(tuple(enumerate(values)), "hold", "frames"),))
