"""How layers read a given image that all frames of a video continue: as features at every level
(AnimateLCM's image-to-video layers), or as extra input channels (PIA).

With several images, each frame continues the nearest; videos without any get zeros.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from ..diffusion.curves import Amount
from .context_frames import ContextFrames
from .layers.positions import interleaved_sinusoid
from .layers.specs import NO_INPUTS, LayerInputs, LayerSpec, ModuleSpec, module_kind


@dataclass(frozen=True, kw_only=True, eq=False)
class SegmentImages:
    """Image conditions of the frames of a segment.

    latents: [b t c h w], of the image that each frame continues. distance: [b t] in frames to it.
    has_image: [b], 0 for videos without one. motion: overrides the layers' setting; None = keep it.
    """

    latents: Tensor
    distance: Tensor
    has_image: Tensor
    motion: tuple[float, ...] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class KeyframeImages:
    """Images [1 n c h w], as latents, for absolute frames of a video.

    motion: amount of motion between them, see :attr:`MaskedImageSpec.likeness` and
    :attr:`ImageEncoderSpec.motion`; None = as published.
    """

    latents: Tensor
    frames: tuple[int, ...]
    motion: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.latents.shape[1] != len(self.frames) or not self.frames:
            raise ValueError(
                f"{self.latents.shape[1]} keyframe images cannot stand at the "
                f"{len(self.frames)} frames {list(self.frames)}"
            )

    def of_segment(self, numbers: Sequence[int], like: Tensor, videos: int) -> SegmentImages:
        """Conditions of the frames with these absolute numbers, in a batch of `videos`."""
        nearest, distance = _nearest(torch.tensor(self.frames), torch.tensor(list(numbers)))
        latents = self.latents[:, nearest.to(self.latents.device)].to(like)
        return SegmentImages(
            latents=latents.expand(videos, *latents.shape[1:]),
            distance=distance.to(like.device).expand(videos, -1),
            has_image=torch.ones(videos, device=like.device),
            motion=self.motion,
        )


def _nearest(places: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
    """For frames [t], the index of the nearest place [n] (the first of two) and its distance."""
    distances = (frames[:, None] - places[None]).abs()
    return distances.argmin(dim=1), distances.amin(dim=1)


def images_of(context: ContextFrames) -> SegmentImages:
    """The context frames of a segment as images that its frames continue."""
    latents, frames = context.latents, torch.arange(context.latents.shape[1])
    chosen, distance = [], []
    for video, mask in zip(latents, context.mask, strict=True):
        places = mask.nonzero().flatten().cpu()
        nearest, far = _nearest(places if len(places) else frames[:1], frames)
        chosen.append(video[(places if len(places) else frames[:1])[nearest].to(video.device)])
        distance.append(far)
    return SegmentImages(
        latents=torch.stack(chosen),
        distance=torch.stack(distance).to(latents.device),
        has_image=context.mask.amax(dim=1),
    )


# --------------------------------------------------------------------------------------------------
# Features at every level.


@module_kind("image encoder")
@dataclass(frozen=True, kw_only=True)
class ImageEncoderSpec(ModuleSpec):
    """widths: of the features per level, those of the image network. motion: scale of the frames'
    position embedding; more gives more motion."""

    widths: tuple[int, ...]
    channels: int = 4
    blocks: int = 2  # per level
    motion: float = 0.8
    in_place: bool = False

    def build(self, width: int, ops=nn) -> ImageEncoder:
        return ImageEncoder(self, ops)


class ImageEncoder(nn.Module):
    """Convolutions per frame on the given image plus an embedding of the frame's position."""

    def __init__(self, spec: ImageEncoderSpec, ops=nn):
        super().__init__()
        self.per_level, self.motion = spec.blocks, spec.motion
        self.conv_in = ops.Conv2d(spec.channels, spec.widths[0], 3, padding=1)
        self.body = nn.ModuleList(list(encoder_blocks(spec, ops)))

    def forward(
        self, context: ContextFrames | SegmentImages, dtype: torch.dtype
    ) -> tuple[list[Tensor], None]:
        """Feature maps [(b t), width, h_l, w_l], finest first, and None for an embedding of the
        noise level."""
        images = context if isinstance(context, SegmentImages) else images_of(context)
        videos, frames = images.latents.shape[:2]
        h = self.conv_in(rearrange(images.latents.to(dtype), "b t c h w -> (b t) c h w"))
        places = torch.arange(frames, device=h.device)
        motion = self.motion if images.motion is None else images.motion[0]
        at = motion * interleaved_sinusoid(places, h.shape[1]).to(dtype)
        h = h + repeat(at, "t c -> (b t) c 1 1", b=videos)
        has_image = repeat(images.has_image.to(dtype), "b -> (b t) 1 1 1", t=frames)
        features = []
        for k, block in enumerate(self.body):
            h = block(h)
            if k % self.per_level == self.per_level - 1:
                features.append(h * has_image)
        return features, None


def encoder_blocks(spec: Any, ops) -> Iterator[nn.Module]:
    """`spec.blocks` blocks for each level of `spec.widths`; the first of each level but the finest
    halves the size."""
    before = spec.widths[0]
    for level, width in enumerate(spec.widths):
        for k in range(spec.blocks):
            yield EncoderBlock(before, width, shrinks=bool(level and not k), ops=ops)
            before = width


class EncoderBlock(nn.Module):
    """Two convolutions with a residual, after 2x average pooling if it shrinks; odd sizes replicate
    their last row or column."""

    def __init__(self, width: int, width_out: int, *, shrinks: bool, ops=nn):
        super().__init__()
        self.shrinks = shrinks
        self.in_conv = ops.Conv2d(width, width_out, 1) if width != width_out else None
        self.block1 = ops.Conv2d(width_out, width_out, 3, padding=1)
        self.block2 = ops.Conv2d(width_out, width_out, 1)

    def forward(self, h: Tensor) -> Tensor:
        if self.shrinks:
            odd = (0, h.shape[-1] % 2, 0, h.shape[-2] % 2)
            h = F.avg_pool2d(F.pad(h, odd, mode="replicate"), 2)
        h = h if self.in_conv is None else self.in_conv(h)
        return h + self.block2(F.relu(self.block1(h)))


# --------------------------------------------------------------------------------------------------
# Extra input channels.


@module_kind("masked image")
@dataclass(frozen=True, kw_only=True)
class MaskedImageSpec(ModuleSpec):
    """likeness: of frames to the given image by their distance from it, in 0 .. 1; the last value
    holds for all larger distances."""

    likeness: tuple[float, ...]
    levels: int
    channels: int = 4
    in_place: bool = False

    def __post_init__(self) -> None:
        if not self.likeness:
            raise ValueError("the likeness of frames to the image needs at least 1 value, got 0")

    def build(self, width: int, ops=nn) -> MaskedImage:
        return MaskedImage(self)


class MaskedImage(nn.Module):
    """A plane of each frame's likeness and the image's latents, at the finest level."""

    def __init__(self, spec: MaskedImageSpec):
        super().__init__()
        self.likeness, self.levels = spec.likeness, spec.levels

    def forward(
        self, context: ContextFrames | SegmentImages, dtype: torch.dtype
    ) -> tuple[list[Tensor | None], None]:
        """[(b t), 1 + c, h, w] for the finest level, None for the others."""
        images = context if isinstance(context, SegmentImages) else images_of(context)
        image, size = images.latents, images.latents.shape[-2:]
        likeness = self.likeness if images.motion is None else images.motion
        table = torch.tensor(likeness, device=image.device, dtype=image.dtype)
        distance = images.distance.clamp(max=len(likeness) - 1)
        plane = repeat(table[distance], "b t -> b t 1 h w", h=size[0], w=size[1])
        both = torch.cat([plane, image], dim=2)
        both = (both * images.has_image[:, None, None, None, None]).to(dtype)
        first = rearrange(both, "b t c h w -> (b t) c h w")
        return [first, *[None] * (self.levels - 1)], None


@module_kind("input channels")
@dataclass(frozen=True, kw_only=True)
class InputChannelsSpec(LayerSpec):
    """Weights of the network's first convolution for the extra channels of a condition.

    latents: channels of a first convolution of its own, which replaces the image network's if the
    layer is passed the network's input; 0 = none.
    """

    channels: int = 5
    kernel: int = 3
    latents: int = 0

    def build(self, width: int, ops=nn) -> InputChannels:
        return InputChannels(width, self, ops)


class InputChannels(nn.Module):
    """See :class:`InputChannelsSpec`."""

    def __init__(self, width: int, spec: InputChannelsSpec, ops=nn):
        super().__init__()
        half = spec.kernel // 2
        self.conv = ops.Conv2d(spec.channels, width, spec.kernel, padding=half, bias=False)
        nn.init.zeros_(self.conv.weight)
        self.own = None
        if spec.latents:
            self.own = ops.Conv2d(spec.latents, width, spec.kernel, padding=half)

    def forward(
        self, h: Tensor, frames: int, inputs: LayerInputs = NO_INPUTS, strength: Amount = 1.0
    ) -> Tensor:
        strength = strength.to(h) if isinstance(strength, Tensor) else strength
        if self.own is not None and inputs.latents is not None:
            h = h + strength * (self._first(inputs.latents) - h)
        if inputs.context is None:
            return h
        return h + strength * self.conv(inputs.context)

    def _first(self, latents: Tensor) -> Tensor:
        have, own = latents.shape[1], self.own.in_channels
        if have != own:
            raise ValueError(
                f"the first convolution of the layers takes {own} channels, but the model's input "
                f"has {have}: keep the model's own"
            )
        return self.own(latents)
