"""Which frames of its videos a training batch contains, and which of these are context frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple

import numpy as np

from ..tasks.interpolation import FACTOR
from ..tasks.sparse_first import spread_evenly


class FrameChoice(NamedTuple):
    """The frames of a batch. times: their indices in the video. sparse: for a batch of all frames
    from one sparse frame to another, the positions of sparse frames within `times`. blended:
    training starts from blends of the sparse frames."""

    times: list[int]
    sparse: list[int] | None = None
    blended: bool = False


@dataclass(frozen=True, kw_only=True)
class FrameSampling:
    """The frame settings of a recipe's table ``data``.

    given: context frames: ``"none"``, ``"first"`` (0, 1 or 2 leading frames with probabilities
    ``given_first``, Video LDM section 3.2; or, with probability ``given_ends``, the first and the
    last) or ``"every fourth"`` (section 3.3; one video in twenty has none).

    drawn_frames: (least, most) frames, the first and random others: they show the motion as well as
    all frames do, for a fraction of the work. successive_frames: (least, most) consecutive frames
    in half of these batches, which teach temporal consistency.

    sparse_frames: half of all batches have this many frames spread evenly over the video, with
    which sampling begins (:mod:`..tasks.sparse_first`). A share ``between_sparse_frames`` of the
    others has all frames from one sparse frame to another, with the sparse ones as context. Half of
    those start from blends; a share ``between_alone`` of their videos has no context, as in the
    last step of sampling.
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
    def of(cls, data: dict[str, Any]) -> FrameSampling:
        """Read the settings from a recipe's ``data``, ignoring other keys."""
        return cls(**{k: v for k, v in data.items() if k in {f.name for f in fields(cls)}})

    def draw(self, frames: int, random: np.random.Generator) -> FrameChoice:
        """Draw the frames of one batch, for videos of ``frames`` frames."""
        if self.sparse_frames and random.random() < 0.5:
            return FrameChoice(spread_evenly(frames, self.sparse_frames))
        if self.sparse_frames and random.random() < self.between_sparse_frames:
            return self._between(spread_evenly(frames, self.sparse_frames), random)
        if self.drawn_frames is None:
            return FrameChoice(list(range(frames)))
        if self.successive_frames is not None and random.random() < 0.5:
            least, most = self.successive_frames
            count = int(random.integers(least, most + 1))
            start = int(random.integers(frames - count + 1))
            return FrameChoice(list(range(start, start + count)))
        least, most = self.drawn_frames
        others = random.choice(frames - 1, size=random.integers(least - 1, most), replace=False)
        return FrameChoice([0, *sorted(int(k) + 1 for k in others)])

    @staticmethod
    def _between(sparse: list[int], random: np.random.Generator) -> FrameChoice:
        first, last = sorted(random.choice(len(sparse), size=2, replace=False))
        start = sparse[first]
        within = [t - start for t in sparse[first : last + 1]]
        return FrameChoice(
            list(range(start, sparse[last] + 1)), within, bool(random.random() < 0.5)
        )

    def mask(self, choice: FrameChoice, random: np.random.Generator) -> np.ndarray:
        """The context mask [t] of one video, 1 = context frame."""
        mask = np.zeros(len(choice.times), np.float32)
        if choice.sparse is not None:
            alone = choice.blended and random.random() < self.between_alone
            mask[choice.sparse] = not alone
        elif self.given == "first" and random.random() < self.given_ends:
            mask[[0, -1]] = 1
        elif self.given == "first":
            mask[: random.choice(3, p=self.given_first)] = 1
        elif self.given == "every fourth" and random.random() < 0.95:
            mask[::FACTOR] = 1
        return mask
