"""ControlNets (Zhang et al. 2023): a copy of an image U-Net's encoder that also sees another image.

Its outputs, from convolutions that were initialised with zeros, are added to the U-Net's skip
connections and to its middle block.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from diffusers import ControlNetModel
from einops import rearrange, repeat
from torch import Tensor

from ..diffusion.curves import FULL, Curve, StepAt

Added = Mapping[str, Tensor]
"""What a U-Net adds to its time embedding, by diffusers' names: "text_embeds" [b d] or [b t d] and
"time_ids" [b n]."""
REDUCTION = 8
"""Pixels of the control image per latent position along one side."""


class Residuals(NamedTuple):
    """What is added to the skip connections, first to last, and to the middle: [(b t), c, h, w]."""

    skips: list[Tensor]
    middle: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Control:
    """A ControlNet with its control image.

    image: [t, 3, 8 h, 8 w] in [0, 1] for t frames, or [1, 3, 8 h, 8 w] for all. pooled: average the
    outputs over all positions, for ControlNets trained that way, such as "shuffle". curve: factor
    of the strength by absolute frame number and step.
    """

    network: ControlNetModel
    image: Tensor
    strength: float = 1.0
    pooled: bool = False
    curve: Curve = FULL
    frames: Sequence[int] = ()
    step: StepAt | None = None

    def __call__(
        self, x: Tensor, timesteps: Tensor, text: Tensor | None, added: Added | None = None
    ) -> Residuals:
        """For the network's input x [b, t, c, h, w] at timesteps [], [b] or [b, t]. added: what
        U-Nets such as Stable Diffusion XL's read besides the text."""
        videos, frames = x.shape[:2]
        there = dict(device=self.network.device, dtype=self.network.dtype)
        steps = timesteps[:, None] if timesteps.ndim == 1 else timesteps
        image = self.image.expand(frames, -1, -1, -1)
        skips, middle = self.network(
            rearrange(x, "b t c h w -> (b t) c h w").to(**there),
            steps.expand(videos, frames).flatten().to(self.network.device),
            _per_frame(text, 3, videos, frames).to(**there),
            repeat(image, "t c h w -> (b t) c h w", b=videos).to(**there),
            added_cond_kwargs={
                name: _per_frame(value, 2, videos, frames).to(**there)
                for name, value in (added or {}).items()
            },
            return_dict=False,
        )
        return Residuals([self._weighted(one, x) for one in skips], self._weighted(middle, x))

    def _weighted(self, answer: Tensor, x: Tensor) -> Tensor:
        answer = answer.mean((2, 3), keepdim=True).expand_as(answer) if self.pooled else answer
        curve = self.curve * self.strength
        return along(curve, answer, self.frames, self.step, len(x)).to(x)


def along(
    curve: Curve, answer: Tensor, frames: Sequence[int], step: StepAt | None, videos: int
) -> Tensor:
    """answer [(b t) c h w] times a curve over absolute frame numbers and the step."""
    amount = curve.amount(frames, step, tuple(answer.shape[-2:]))
    if isinstance(amount, Tensor):
        amount = repeat(amount, "t h w -> (b t) 1 h w", b=videos).to(answer)
    return answer * amount


def check_fits(network: ControlNetModel, unet: Any) -> None:
    """Raise ValueError unless a ControlNet matches U-Nets of this diffusers configuration."""
    for name, what in (
        ("in_channels", "latents of {} channels"),
        ("block_out_channels", "levels of {} channels"),
        ("layers_per_block", "{} blocks per level"),
        ("cross_attention_dim", "text of width {}"),
    ):
        mine, wanted = (_words(getattr(config, name)) for config in (network.config, unet))
        if mine != wanted:
            raise ValueError(
                f"the ControlNet is for {what.format(mine)}, but the model has {wanted}: "
                "it belongs to another family of models"
            )


def summed(residuals: Iterable[Residuals]) -> Residuals | None:
    """The sum of the residuals of several ControlNets; None of none."""
    total: Residuals | None = None
    for one in residuals:
        if total is None:
            total = one
            continue
        skips = [a + b for a, b in zip(total.skips, one.skips, strict=True)]
        total = Residuals(skips, total.middle + one.middle)
    return total


def _per_frame(value: Tensor | None, axes: int, videos: int, frames: int) -> Tensor:
    """[(b t), ...] from a tensor per video, of `axes` axes [b, ...], or per frame [b, t, ...]."""
    if value is None:
        raise ValueError("a ControlNet reads the prompt, but the model was given none")
    if value.ndim == axes:
        value = value[:, None].expand(-1, frames, *value.shape[1:])
    return value.expand(videos, *value.shape[1:]).flatten(0, 1)


def _words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
