"""Keeps colours, contrast and content from drifting from one segment to the next.

Colours are matched in latents, not in decoded frames: segments are handed over in latent space, and
decoding and encoding each of them would lose detail every time. Mean and deviation per channel work
here as they do in Lab, since lightness and two colours almost have a latent channel each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..diffusion.curves import current_step
from ..diffusion.denoiser import Denoiser, broadcast
from ..networks.reference import ReferenceBank, ReferenceUse, ReferenceWindow
from .segment import (
    DenoiserFor,
    Evaluations,
    Sampling,
    ScopedDenoisers,
    SegmentCondition,
    in_scope,
)

REFERENCE = "reference"
"""The stream of the noise that reference frames are noised with."""


def matched(new: Tensor, before: Tensor, strength: float = 1.0) -> Tensor:
    """Frames [b t c h w] with the mean and deviation of each channel moved towards those of the
    frames before them [b n c h w], by a share `strength` of the way (Reinhard et al. 2001)."""
    if not strength:
        return new
    (mean, spread), (wanted, contrast) = _statistics(new), _statistics(before)
    return torch.lerp(new, (new - mean) * (contrast / spread.clamp(min=1e-6)) + wanted, strength)


def _statistics(frames: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation [b 1 c 1 1]. The deviation is within frames: over many frames it would be
    larger than over few, which change less, and contrast would fall from segment to segment."""
    variance = frames.var((3, 4), keepdim=True, correction=0).mean(1, keepdim=True)
    return frames.mean((1, 3, 4), keepdim=True), variance.sqrt()


@dataclass(frozen=True)
class HeldReference(ScopedDenoisers):
    """Denoisers of segments whose spatial self-attention also reads finished frames, noised to the
    segment's own levels.

    frames: [b t c h w] that are read, from the start of the video and `spacing` frames apart; they
    are noised and evaluated before the segment, in the steps in which `settings` act.
    """

    denoiser_for: DenoiserFor
    frames: Tensor
    settings: ReferenceWindow
    sampling_of: Sampling
    spacing: int = 1

    def __call__(self, condition: SegmentCondition) -> Denoiser:
        bank, count = ReferenceBank(), min(self.frames.shape[1], len(condition.frames))
        numbers = range(0, count * self.spacing, self.spacing)
        use = ReferenceUse(bank=bank, settings=self.settings)
        reads = self.denoiser_for(replace(condition, reference=use))
        # No context frames, but the empty context that the network was trained with.
        given = condition.context and condition.context.at(range(count)).dropped()
        records = self.denoiser_for(
            SegmentCondition(
                frames=numbers, context=given, rate=condition.rate, level=condition.level,
                reference=replace(use, records=True),
            )
        )  # fmt: skip
        clean = self.frames[:, :count].to(self.sampling_of.device)
        noise = self.sampling_of.noise(len(clean), numbers).like(clean, stream=REFERENCE)

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            step = current_step.get()
            bank.kept.clear()
            if step is None or self.settings.acts(step):
                own = sigma[:, :count] if sigma.ndim > 1 else sigma
                records(clean + broadcast(own, clean) * noise, own)
            return reads(x, sigma)

        return denoise

    def sampling(self, planned: Evaluations, run: Callable[[], Tensor]) -> Tensor:
        return in_scope(self.denoiser_for, planned, run)
