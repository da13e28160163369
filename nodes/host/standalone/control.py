"""The standalone host's CONTROL_NET, and its hints in a CONDITIONING."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

import torch
from diffusers import ControlNetModel
from torch import Tensor

from ....core.diffusion.curves import FIRST_STEP, FULL, Curve, StepAt
from ....core.diffusion.resizing import resize
from ....core.diffusion.schedules import NoiseRange, NoiseSchedule
from ....core.networks.controlnet import REDUCTION, Control
from ....core.networks.sparse_control import SparseControl, SparseControlNet, sparse_condition
from ..shared.conditioning import hint_indices
from ..shared.misfits import check_sparse_images
from ..shared.vae import VideoVAE
from ..tensors import check_finite

CONTROL, TO_NEGATIVE = "control", "control_apply_to_uncond"
"""ComfyUI's keys in a CONDITIONING."""


@dataclass(frozen=True, eq=False)
class StandaloneControlNet:
    """A ControlNet on a wire. pooled: see `core.networks.controlnet.Control`."""

    network: ControlNetModel
    pooled: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Hint:
    """A ControlNet and its images [k, 3, h, w], active from `start` to `end`, fractions of the
    sampling. previous: the hint applied before, which acts as well. curve: multiplies the strength.
    """

    net: StandaloneControlNet
    images: Tensor
    strength: float
    start: float = 0.0
    end: float = 1.0
    previous: Hint | None = None
    curve: Curve = FULL
    _resized: dict[tuple[int, int], Tensor] = field(default_factory=dict, repr=False)

    def acts(self, schedule: NoiseSchedule | NoiseRange, sigma: float) -> bool:
        return level_of(schedule, self.end) <= sigma <= level_of(schedule, self.start)

    def control(self, x: Tensor, frames: Sequence[int], step: StepAt | None) -> Control:
        """Core's control for latents [b, t, c, h, w] of these absolute frames at a step."""
        height, width = (REDUCTION * side for side in x.shape[-2:])
        if (height, width) not in self._resized:
            self._resized.clear()
            image = resize(self.images, width, height, "nearest-exact", "center")
            self._resized[height, width] = image
        return Control(
            network=self.net.network, image=self._resized[height, width], strength=self.strength,
            pooled=self.net.pooled, curve=self.curve, frames=frames, step=step,
        )  # fmt: skip

    def off(self, frames: Sequence[int], step: StepAt | None) -> bool:
        """Whether the curve is 0 for all these frames at a step."""
        return not any(self.curve.at(frame, step or FIRST_STEP) for frame in frames)

    def with_images(self, indices: Sequence[int]) -> Hint:
        """The hint with the images of these indices."""
        return replace(self, images=self.images[list(indices)], _resized={})

    def of_frames(self, frames: Sequence[int]) -> Hint:
        """The hint for a segment of these absolute frames; frames past the last image keep it."""
        count = len(self.images)
        return self.with_images(hint_indices(count, frames)) if count > 1 else self

    def repeated(self, frames: int) -> Hint:
        """The hint for KSampler, which repeats the images if they are too few."""
        count = len(self.images)
        return self if count == 1 else self.with_images([frame % count for frame in range(frames)])


@dataclass(frozen=True, eq=False)
class StandaloneSparseControl:
    """A SparseCtrl on a wire, with the absolute frames of its images."""

    network: SparseControlNet
    frames: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class SparseHint(Hint):
    """A SparseCtrl with its images. vae: for a network that reads encoded images."""

    net: StandaloneSparseControl
    vae: VideoVAE | None = None

    def of_frames(self, frames: Sequence[int]) -> SparseHint:
        return self

    def repeated(self, frames: int) -> SparseHint:
        return self

    def control(self, x: Tensor, frames: Sequence[int], step: StepAt | None) -> SparseControl:
        reduction = REDUCTION if self.vae is None else self.vae.factor
        height, width = (reduction * side for side in x.shape[-2:])
        if (height, width) not in self._resized:
            self._resized.clear()
            image = resize(self.images, width, height, "nearest-exact", "center")
            self._resized[height, width] = self._encoded(image)
        condition = sparse_condition(self._resized[height, width], self.net.frames, frames)
        return SparseControl(
            network=self.net.network, condition=condition, strength=self.strength,
            curve=self.curve, frames=frames, step=step,
        )  # fmt: skip

    def _encoded(self, images: Tensor) -> Tensor:
        if self.vae is None:
            return images
        raw = self.vae.encode_video(2 * images[None] - 1)
        return raw[0] * self.net.network.latent_scale


def sparse_hint(
    net: StandaloneSparseControl, image: Tensor, strength: float, start: float, end: float,
    vae: VideoVAE | None,
) -> SparseHint:  # fmt: skip
    """A hint from an IMAGE [k, h, w, c] for the k frames that the SparseCtrl was loaded for."""
    check_finite(image, "images")
    check_sparse_images(len(image), net.frames)
    if not net.network.takes_latents:
        vae = None
    elif vae is None:
        raise ValueError(
            "this SparseCtrl follows encoded images: connect a VAE to Apply ControlNet"
        )
    images = image[..., :3].movedim(-1, 1)
    return SparseHint(net=net, images=images, strength=strength, start=start, end=end, vae=vae)


def hint(net: StandaloneControlNet | StandaloneSparseControl, image: Tensor, strength: float,
         start: float = 0.0, end: float = 1.0, vae: VideoVAE | None = None) -> Hint:  # fmt: skip
    """A hint from an IMAGE [k, h, w, c]."""
    if isinstance(net, StandaloneSparseControl):
        return sparse_hint(net, image, strength, start, end, vae)
    check_finite(image, "images")
    images, wanted = image[..., :3].movedim(-1, 1), net.network.config.conditioning_channels
    if images.shape[1] != wanted:
        raise ValueError(
            f"the ControlNet follows images of {wanted} channels, got {images.shape[1]}"
        )
    return Hint(net=net, images=images, strength=strength, start=start, end=end)


def level_of(schedule: NoiseSchedule | NoiseRange, fraction: float) -> float:
    """The noise level at a fraction of the sampling; infinity at 0 and 0 at 1."""
    if fraction <= 0:
        return inf
    if fraction >= 1:
        return 0.0
    if isinstance(schedule, NoiseRange):
        return schedule.at(fraction)
    at = torch.tensor((1 - fraction) * (schedule.steps - 1))
    return float(schedule.sigma(at).float())


# --------------------------------------------------------------------------------------------------
# In a CONDITIONING.


def with_hint(conditioning: Sequence, one: Hint, **options: Any) -> list:
    """The prompts with one more hint; `options` are added to the dict of each."""
    return [
        [tokens, {**more, CONTROL: replace(one, previous=more.get(CONTROL)), **options}]
        for tokens, more in conditioning
    ]


def with_strength_curve(conditioning: Sequence, curve: Curve) -> list:
    """The prompts with the strength of their last hint multiplied by the curve."""
    hints = [more.get(CONTROL) for _, more in conditioning]
    return [
        [text, more if one is None else {**more, CONTROL: replace(one, curve=one.curve * curve)}]
        for (text, more), one in zip(conditioning, hints, strict=True)
    ]


def hints_of(conditioning: Sequence, frames: Sequence[int]) -> list[Hint]:
    """The hints of one branch in order of application, with the images of a segment's frames."""
    found, one = [], conditioning[0][1].get(CONTROL)
    while one is not None:
        found.append(one.of_frames(frames))
        one = one.previous
    return found[::-1]


def repeated_hints(conditioning: Sequence, frames: int) -> list:
    """The prompts with their hints as KSampler reads them: images repeat if they are too few."""
    return [[tokens, _with_repeated(more, frames)] for tokens, more in conditioning]


def _with_repeated(more: Mapping[str, Any], frames: int) -> dict[str, Any]:
    one = more.get(CONTROL)
    return dict(more) if one is None else {**more, CONTROL: _repeated(one, frames)}


def _repeated(one: Hint, frames: int) -> Hint:
    if one.previous is not None:
        one = replace(one, previous=_repeated(one.previous, frames))
    return one.repeated(frames)


def with_hints_of(positive: Sequence, negative: Sequence) -> list:
    """The negative prompts with the positive ones' hints for both, unless they have their own."""
    shared = [more[CONTROL] for _, more in positive if more.get(TO_NEGATIVE)]
    if not shared or any(more.get(CONTROL) for _, more in negative):
        return list(negative)
    hints = dict(zip((k % len(negative) for k in range(len(shared))), shared, strict=True))
    return [
        [tokens, {**more, CONTROL: hints[k]} if k in hints else more]
        for k, (tokens, more) in enumerate(negative)
    ]
