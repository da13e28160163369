"""Which frames of its videos a training batch shows, and which of these the layers are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple

import numpy as np

from ..tasks.interpolation import FACTOR
from ..tasks.sparse_first import spread_evenly


class Shown(NamedTuple):
    """Frames of a batch. times: their numbers within the video. sparse: which of them (counted from
    the first) are sparse frames, where they are all frames from one sparse frame to another.
    blended: training starts from blends of these."""

    times: list[int]
    sparse: list[int] | None = None
    blended: bool = False


@dataclass(frozen=True, kw_only=True)
class ShownFrames:
    """The settings of a recipe's table ``data`` that concern this.

    given: ``"none"``, ``"first"`` (0, 1 or 2 leading frames, with the probabilities
    ``given_first``, Video LDM section 3.2; or, with probability ``given_ends``, the first and the
    last) or ``"every fourth"`` (section 3.3; one video in twenty is given nothing).

    drawn_frames: (least, most): the first and a few other frames, which show the motion as well as
    all of them for a fraction of the work. successive_frames: (least, most): in every second batch
    so many consecutive frames, which teach steadiness.

    sparse_frames: half of all batches show so many frames spread evenly over the video, with which
    sampling begins (:mod:`...tasks.sparse_first`); a share of ``between_sparse_frames`` of the
    others shows all frames from one of these to another, with these given. Half of them start from
    blends, of which a share of ``between_alone`` is given nothing: the last step of sampling.
    """

    given: Literal["none", "first", "every fourth"] = "none"
    given_first: Sequence[float] = (0.2, 0.4, 0.4)
    given_ends: float = 0.0
    drawn_frames: Sequence[int] | None = None
    successive_frames: Sequence[int] | None = None
    sparse_frames: int = 0
    between_sparse_frames: float = 0.0
    between_alone: float = 0.0

    @classmethod
    def of(cls, data: dict[str, Any]) -> ShownFrames:
        """The settings among those of a whole table."""
        return cls(**{k: v for k, v in data.items() if k in {f.name for f in fields(cls)}})

    def draw(self, frames: int, random: np.random.Generator) -> Shown:
        """What one batch shows of videos of ``frames`` frames."""
        if self.sparse_frames and random.random() < 0.5:
            return Shown(spread_evenly(frames, self.sparse_frames))
        if self.sparse_frames and random.random() < self.between_sparse_frames:
            return self._between(spread_evenly(frames, self.sparse_frames), random)
        if self.drawn_frames is None:
            return Shown(list(range(frames)))
        if self.successive_frames is not None and random.random() < 0.5:
            least, most = self.successive_frames
            count = int(random.integers(least, most + 1))
            start = int(random.integers(frames - count + 1))
            return Shown(list(range(start, start + count)))
        least, most = self.drawn_frames
        others = random.choice(frames - 1, size=random.integers(least - 1, most), replace=False)
        return Shown([0, *sorted(int(k) + 1 for k in others)])

    @staticmethod
    def _between(sparse: list[int], random: np.random.Generator) -> Shown:
        first, last = sorted(random.choice(len(sparse), size=2, replace=False))
        start = sparse[first]
        within = [t - start for t in sparse[first : last + 1]]
        return Shown(list(range(start, sparse[last] + 1)), within, bool(random.random() < 0.5))

    def mask(self, shown: Shown, random: np.random.Generator) -> np.ndarray:
        """Which of the shown frames one video is given, [t] of 0 and 1."""
        mask = np.zeros(len(shown.times), np.float32)
        if shown.sparse is not None:
            alone = shown.blended and random.random() < self.between_alone
            mask[shown.sparse] = not alone
        elif self.given == "first" and random.random() < self.given_ends:
            mask[[0, -1]] = 1
        elif self.given == "first":
            mask[: random.choice(3, p=self.given_first)] = 1
        elif self.given == "every fourth" and random.random() < 0.95:
            mask[::FACTOR] = 1
        return mask
