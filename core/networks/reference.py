"""Spatial self-attention that also reads a reference window: what one window of the same video saw
at the same step. This keeps people and places the same across windows that share no frame.

Frame k of a window reads frame k of the reference window: its normalised tokens, which are the
input of keys and values. The reference window itself reads nothing, so that the order of windows
does not matter.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field, replace

import torch
from einops import rearrange
from torch import Tensor

from ..diffusion.curves import StepAt


@dataclass(frozen=True, kw_only=True)
class ReferenceWindow:
    """Which window is read, when, and how much.

    first: its first frame; a window near the end is moved back into the video. strength, negative:
    0 .. 1, share of the reference in what is read when the prompt and when the negative prompt is
    evaluated; the rest are the window's own tokens. begin, end: fractions of the sampling, 0 the
    first step and 1 the last. Raises ValueError for numbers outside of these ranges.
    """

    first: int = 0
    strength: float = 1.0
    negative: float = 1.0
    begin: float = 0.0
    end: float = 0.25

    def __post_init__(self) -> None:
        strengths = (self.strength, self.negative)
        if not all(0 <= one <= 1 for one in strengths):
            raise ValueError(f"The strengths of a reference lie in 0 .. 1, got {strengths}.")
        if not 0 <= self.begin <= self.end <= 1:
            raise ValueError(
                f"A reference must begin and end in order within 0 .. 1, got {self.begin} and "
                f"{self.end}."
            )

    def planned(self, frames: int, window: int) -> tuple[int, ...]:
        """The frames of the reference window in a video of so many frames."""
        start = max(min(self.first, frames - window), 0)
        return tuple(range(start, min(start + window, frames)))

    def acts(self, step: StepAt) -> bool:
        return self.begin <= step.fraction <= self.end


@dataclass(eq=False)
class ReferenceBank:
    """Tokens [(b t), n, c] of the reference window's last evaluation, by place and branch."""

    kept: dict[Hashable, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class ReferenceUse:
    """The role of one evaluation: it records, or reads if the bank has tokens.

    branch: which prompt is evaluated. is_negative: whether that is the negative prompt. lead:
    frames in front of the window that are not its own.
    """

    bank: ReferenceBank
    settings: ReferenceWindow
    records: bool = False
    branch: Hashable = None
    is_negative: bool = False
    lead: int = 0

    def of_branch(self, branch: Hashable, *, is_negative: bool) -> ReferenceUse:
        return replace(self, branch=(branch, is_negative), is_negative=is_negative)

    def extra_tokens(self, place: Hashable, tokens: Tensor, frames: int) -> Tensor | None:
        """Tokens [(b t), n, c] that attention reads besides its own of this shape, or None."""
        if self.records:
            self.bank.kept[place, self.branch] = tokens
            return None
        kept = self.bank.kept.get((place, self.branch))
        if kept is None:
            return None
        theirs = rearrange(kept, "(b t) n c -> b t n c", b=len(tokens) // frames)
        at = torch.arange(frames, device=kept.device) - self.lead
        theirs = theirs[:, at.clamp(0, theirs.shape[1] - 1)].flatten(0, 1)
        strength = self.settings.negative if self.is_negative else self.settings.strength
        # Reading its own tokens twice does not change attention, so strength 0 has no effect.
        return torch.lerp(tokens, theirs.to(tokens), strength)
