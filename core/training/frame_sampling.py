"""Which frames of its clips a training batch shows, and which of these the layers are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple

import numpy as np

from ..tasks.interpolation import FACTOR
from ..tasks.sparse_first import spread_evenly


class Shown(NamedTuple):
    """The numbers of the shown frames within their clip and, where they are those from one anchor
    to another, which of them (counted from the first that is shown) are anchors; blended: training
    starts from blends of these."""

    times: list[int]
    anchors: list[int] | None = None
    blended: bool = False


@dataclass(frozen=True, kw_only=True)
class ShownFrames:
    """The settings of a recipe's table ``data`` that concern this.

    given: ``"none"``, ``"first"`` (0, 1 or 2 leading frames, with the probabilities
    ``given_first``, Video LDM section 3.2; or, with probability ``given_ends``, the first and the
    last) or ``"every fourth"`` (section 3.3; one clip in twenty is given nothing).

    drawn_frames: (least, most): the first and a few other frames, since what moves where shows in
    them as well as in all, for a fraction of the work. successive_frames: (least, most): in every
    second batch so many frames that follow each other, which teach steadiness.

    anchors: half of all batches show so many frames spread evenly over the clip, which sampling
    begins with; a share of ``between_anchors`` of the others shows all frames from one anchor to
    another, with the anchors given. Half of these start from blends, of which a share of
    ``between_alone`` is given nothing: the last step of sampling.
    """

    given: Literal["none", "first", "every fourth"] = "none"
    given_first: Sequence[float] = (0.2, 0.4, 0.4)
    given_ends: float = 0.0
    drawn_frames: Sequence[int] | None = None
    successive_frames: Sequence[int] | None = None
    anchors: int = 0
    between_anchors: float = 0.0
    between_alone: float = 0.0

    @classmethod
    def of(cls, data: dict[str, Any]) -> ShownFrames:
        """The settings among those of a whole table."""
        return cls(**{k: v for k, v in data.items() if k in {f.name for f in fields(cls)}})

    def draw(self, frames: int, random: np.random.Generator) -> Shown:
        """What one batch shows of clips of ``frames`` frames."""
        if self.anchors and random.random() < 0.5:
            return Shown(spread_evenly(frames, self.anchors))
        if self.anchors and random.random() < self.between_anchors:
            return self._between(spread_evenly(frames, self.anchors), random)
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
    def _between(anchors: list[int], random: np.random.Generator) -> Shown:
        first, last = sorted(random.choice(len(anchors), size=2, replace=False))
        start = anchors[first]
        within = [t - start for t in anchors[first : last + 1]]
        return Shown(list(range(start, anchors[last] + 1)), within, bool(random.random() < 0.5))

    def mask(self, shown: Shown, random: np.random.Generator) -> np.ndarray:
        """Which of the shown frames one clip is given, [t] of 0 and 1."""
        mask = np.zeros(len(shown.times), np.float32)
        if shown.anchors is not None:
            alone = shown.blended and random.random() < self.between_alone
            mask[shown.anchors] = not alone
        elif self.given == "first" and random.random() < self.given_ends:
            mask[[0, -1]] = 1
        elif self.given == "first":
            mask[: random.choice(3, p=self.given_first)] = 1
        elif self.given == "every fourth" and random.random() < 0.95:
            mask[::FACTOR] = 1
        return mask
