"""A reference window that the other windows of a step read; see `networks.reference`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from ..diffusion.curves import StepAt
from ..diffusion.denoiser import Denoiser
from ..networks.reference import ReferenceBank, ReferenceUse, ReferenceWindow
from .segment import DenoiserFor, SegmentCondition
from .windows import Window


class WindowReference:
    """The reference window of a video of `frames` frames; condition_of(window) is any window's.

    It is evaluated at every step in which it acts, whether or not it is one of the step's windows.
    """

    def __init__(
        self, settings: ReferenceWindow, condition_of: Callable[[Window], SegmentCondition],
        denoiser_for: DenoiserFor, frames: int, window: int,
    ):  # fmt: skip
        self.settings, self.planned = settings, settings.planned(frames, window)
        self.bank = ReferenceBank()
        records = ReferenceUse(bank=self.bank, settings=settings, records=True)
        self.recorder = denoiser_for(replace(condition_of(self.planned), reference=records))

    def reading(self, condition: SegmentCondition, lead: int = 0) -> SegmentCondition:
        """The condition of a window that reads it; its first `lead` frames are not its own."""
        reads = ReferenceUse(bank=self.bank, settings=self.settings, lead=lead)
        return replace(condition, reference=reads)

    def record(self, x: Tensor, sigma: Tensor, step: StepAt) -> dict[Window, Denoiser]:
        """Evaluate the reference window of x [b t c h w] if it acts, else clear the bank.

        Returns its denoiser for this step by window, so that the answer is not computed again.
        """
        self.bank.kept.clear()
        if not self.settings.acts(step):
            return {}
        at = list(self.planned)
        answer = self.recorder(x[:, at], sigma[:, at] if sigma.ndim > 1 else sigma)
        return {self.planned: lambda x, sigma: answer}
