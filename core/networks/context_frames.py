"""Context frames, which a video model continues or fills in between (Video LDM, section 3.2)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..diffusion.schedules import NoiseSchedule

CLEAN = -1.0
"""The noise level of context frames without noise; step 0 already has some."""


@dataclass(frozen=True, kw_only=True)
class ContextFrames:
    """Latents of a video, of which some frames are given.

    ``latents`` [b, t, c, h, w], zero where no frame is given; ``mask`` [b, t], 1 = given, 0 = to be
    generated; ``noise_level`` [b], the step of the forward process that the given latents were
    perturbed to (LVDM, conditional latent perturbation), CLEAN for none.
    """

    latents: Tensor
    mask: Tensor
    noise_level: Tensor

    def __post_init__(self):
        b, t = self.latents.shape[:2]
        if self.mask.shape != (b, t) or self.noise_level.shape != (b,):
            raise ValueError(
                f"context of {b} videos of {t} frames needs a mask [{b}, {t}] and noise "
                f"levels [{b}], got {list(self.mask.shape)} and "
                f"{list(self.noise_level.shape)}"
            )

    @property
    def step(self) -> Tensor:
        """The noise level [b] for networks that treat clean frames as step 0."""
        return self.noise_level.clamp(min=0)

    @property
    def expanded_mask(self) -> Tensor:
        """The mask as [b, t, 1, 1, 1]."""
        return self.mask[:, :, None, None, None].to(self.latents.dtype)

    @property
    def masked(self) -> Tensor:
        """c_S of Video LDM: mask times latents, then the mask as last channel,
        [b, t, c + 1, h, w]."""
        mask = self.expanded_mask
        plane = mask.expand(*mask.shape[:2], 1, *self.latents.shape[-2:])
        return torch.cat([self.latents * mask, plane], dim=2)

    def to(self, device: torch.device | str) -> ContextFrames:
        """The same on another device."""
        return ContextFrames(
            latents=self.latents.to(device),
            mask=self.mask.to(device),
            noise_level=self.noise_level.to(device),
        )

    def at(self, frames: Sequence[int]) -> ContextFrames:
        """The context of some frames of the video, by position."""
        at = list(frames)
        return replace(self, latents=self.latents[:, at], mask=self.mask[:, at])

    def repeated(self, times: int) -> ContextFrames:
        """For a batch that repeats all videos `times` times, one round after the other."""

        def again(value: Tensor) -> Tensor:
            return value.repeat(times, *[1] * (value.ndim - 1))

        return ContextFrames(
            latents=again(self.latents),
            mask=again(self.mask),
            noise_level=again(self.noise_level),
        )

    def dropped(self) -> ContextFrames:
        """The same with no frame given: the unconditional side of context guidance."""
        return replace(
            self,
            latents=torch.zeros_like(self.latents),
            mask=torch.zeros_like(self.mask),
            noise_level=torch.full_like(self.noise_level, CLEAN),
        )


def no_context(shape: Iterable[int], device: torch.device | str = "cpu") -> ContextFrames:
    """Empty context for videos of ``shape`` (b, t, c, h, w)."""
    b, t, c, h, w = shape
    return ContextFrames(
        latents=torch.zeros(b, t, c, h, w, device=device),
        mask=torch.zeros(b, t, device=device),
        noise_level=torch.full((b,), CLEAN, device=device),
    )


def given_frames(known: Tensor, positions: Iterable[int], frames: int) -> ContextFrames:
    """Context with the frames ``known`` [b, n, c, h, w] at ``positions`` of ``frames`` frames."""
    positions = list(positions)
    if known.shape[1] != len(positions) or any(not 0 <= p < frames for p in positions):
        raise ValueError(
            f"{known.shape[1]} given frames cannot stand at positions {positions} "
            f"of a video of {frames} frames"
        )
    context = no_context((known.shape[0], frames, *known.shape[2:]), known.device)
    context.latents[:, positions] = known.float()
    context.mask[:, positions] = 1
    return context


def perturbed(
    context: ContextFrames, schedule: NoiseSchedule, level: int, noise: Tensor
) -> ContextFrames:
    """Noise the given latents to step ``level`` (LVDM: sqrt(abar_s) z + sqrt(1 - abar_s) n); 0
    keeps them as they are.

    ``noise`` is shaped like the latents, and drawn once per video, not once per sampling step.
    """
    if level == 0:
        return context
    if not 0 < level < len(schedule.alphas_cumprod):
        raise ValueError(
            f"perturbation level {level} must lie in 0 .. {len(schedule.alphas_cumprod) - 1}"
        )
    levels = torch.full_like(context.noise_level, level)
    latents = schedule.add_noise(context.latents, noise, levels.long())
    return replace(context, latents=latents * context.expanded_mask, noise_level=levels)
