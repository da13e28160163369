"""What a network is conditioned on besides the noisy video and its noise level, and what it takes.

    network(x [b t c h w], t [b] or [b t], conditions) -> [b t c h w]

Conditions are the same object for every network, and a :class:`NetworkSpec` says which of them it
reads. Passing one that the network does not read is an error, as it would have no effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from ..diffusion.curves import StepAt
from .context_frames import ContextFrames
from .layers.views import Views
from .reference import ReferenceUse

FRAME_RATE, NOISE_LEVEL, SIZES = "frame_rate", "noise_level", "sizes"
"""Names of ids: frame-rate class [b], step that concatenated frames were noised to [b], and SDXL's
original size, crop and target size [b 6]."""

VIDEO_IDS = FPS_ID, MOTION, AUGMENTATION = "fps_id", "motion", "augmentation"
"""Those of Stable Video Diffusion: frames per second less 1, motion bucket, and noise added to the
start image, each [b], in the order in which the network takes them."""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Everything a network may be conditioned on besides x and t; None or empty = not given.

    Tensors with a batch of one serve all videos, see :meth:`for_videos`.
    """

    text: Tensor | None = None  # tokens [b n d], or [b t n d] for a prompt per frame
    pooled_text: Tensor | None = None  # [b d], or [b t d] for a prompt per frame
    image: Tensor | None = None  # tokens of an image [b n d], or of one per frame [b t n d]
    ids: Mapping[str, Tensor] = field(default_factory=dict)  # by name, [b] or [b n]
    concatenated: Tensor | None = None  # [b t c h w], channels after those of the latents
    context: ContextFrames | None = None  # with mask and noise level
    image_only: Tensor | None = None  # [b t], 1 = the frame is an independent image
    times: Tensor | None = None  # of the frames [t]; None = 0, 1, 2, ...
    frames: tuple[int, ...] | None = None  # absolute frame numbers; None = 0, 1, 2, ...
    views: Views | None = None  # windows for temporal attention, None = all frames
    reference: ReferenceUse | None = None  # for spatial self-attention
    step: StepAt | None = None  # of the sampler, for strengths that change over steps

    @property
    def given(self) -> tuple[str, ...]:
        """The names of the conditions that are given, those of ids included; frames and step are
        bookkeeping and left out."""
        numbers = ("ids", "frames", "step")
        named = {name: value for name, value in vars(self).items() if name not in numbers}
        return (*(name for name, value in named.items() if value is not None), *self.ids)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Conditions:
        """The same on a network's device; what it computes with in its precision."""

        def moved(value: Tensor | None, dtype: torch.dtype | None = None) -> Tensor | None:
            return None if value is None else value.to(device=device, dtype=dtype)

        return replace(
            self,
            text=moved(self.text, dtype),
            pooled_text=moved(self.pooled_text, dtype),
            image=moved(self.image, dtype),
            ids={name: moved(value) for name, value in self.ids.items()},
            concatenated=moved(self.concatenated, dtype),
            context=None if self.context is None else self.context.to(device),
            image_only=moved(self.image_only),
            times=moved(self.times),
        )

    def for_videos(self, videos: int) -> Conditions:
        """The same for a batch of `videos`; batches of one and single numbers are expanded."""

        def expanded(value: Tensor | None) -> Tensor | None:
            if value is None or len(value) == videos:
                return value
            return value.expand(videos, *value.shape[1:])

        return replace(
            self,
            text=expanded(self.text),
            pooled_text=expanded(self.pooled_text),
            image=expanded(self.image),
            ids={name: expanded(torch.atleast_1d(value)) for name, value in self.ids.items()},
            concatenated=expanded(self.concatenated),
            image_only=expanded(self.image_only),
        )

    def check_noise_level(self, known: int) -> None:
        """Raise ValueError if the concatenated frames are noised to a step above `known`."""
        level = self.ids.get(NOISE_LEVEL)
        highest = 0 if level is None else int(level.max())
        if highest > known:
            raise ValueError(
                f"The noise level {highest} of the low-resolution video must be at most {known}."
            )

    def check_fits(self, x: Tensor) -> None:
        """Raise ValueError unless conditions per frame or position match x [b t c h w]."""
        shape = list(x.shape)
        if self.context is not None and list(self.context.latents.shape) != shape:
            raise ValueError(
                f"Given frames of shape {list(self.context.latents.shape)} do not fit latents of "
                f"shape {shape}."
            )
        for name, axes in (("concatenated", (1, 3, 4)), ("image_only", (1,))):
            value = getattr(self, name)
            if value is not None and [value.shape[k] for k in axes] != [shape[k] for k in axes]:
                raise ValueError(
                    f"The condition {name} of shape {list(value.shape)} does not fit latents of "
                    f"shape {shape}."
                )
        for name in ("times", "frames"):
            value = getattr(self, name)
            if value is not None and len(value) != shape[1]:
                raise ValueError(f"{len(value)} {name} do not fit a video of {shape[1]} frames.")

    def numbers(self, count: int) -> tuple[int, ...]:
        """The absolute numbers of the `count` frames of a segment."""
        return tuple(range(count)) if self.frames is None else self.frames


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """What a network takes.

    name: for messages. latent_channels: of x and of the output. concatenated: extra input channels,
    which are required. text, image: width of the tokens, None = not read. ids: by name, each with
    its number of classes (None = any value). context: latent channels of context frames, 0 = not
    read. in_place: context frames replace the noisy ones in x, as they are passed. frames: latent
    frames of the windows it was trained on, 0 = unknown. made_for_video: it has temporal layers of
    its own, whatever is injected. width: channels of its finest level, to estimate memory.
    """

    name: str
    latent_channels: int
    concatenated: int = 0
    text: int | None = None
    pooled_text: bool = False
    image: int | None = None
    ids: Mapping[str, int | None] = field(default_factory=dict)
    context: int = 0
    in_place: bool = False
    frames: int = 0
    made_for_video: bool = False
    image_only: bool = False
    times: bool = False
    views: bool = False
    reference: bool = False
    width: int = 320

    @property
    def begins_with_image(self) -> bool:
        """Whether videos begin with an image, given as tokens and as extra channels."""
        return self.image is not None and self.concatenated > 0

    @property
    def takes(self) -> tuple[str, ...]:
        """The names of the conditions that it reads, those of ids included."""
        reads = {
            "text": self.text is not None,
            "pooled_text": self.pooled_text,
            "image": self.image is not None,
            "concatenated": self.concatenated > 0,
            "context": self.context > 0,
            "image_only": self.image_only,
            "times": self.times,
            "views": self.views,
            "reference": self.reference,
        }
        return (*(name for name, read in reads.items() if read), *self.ids)

    def check(self, conditions: Conditions) -> None:
        """Raise ValueError for conditions that the network does not take, or requires and lacks."""
        have = 0 if conditions.concatenated is None else conditions.concatenated.shape[2]
        if have != self.concatenated:
            raise ValueError(
                f"The network takes {self.concatenated} channels besides the "
                f"{self.latent_channels} of the latents, but {have} were given."
            )
        more = [name for name in conditions.given if name not in self.takes]
        if more:
            raise ValueError(
                f"The {self.name} takes {', '.join(self.takes) or 'no conditions'}, but was also "
                f"given {', '.join(more)}."
            )
        if self.pooled_text and conditions.pooled_text is None:
            raise ValueError("the model needs pooled text, but the prompts carry 0 pooled vectors")


class Network(Protocol):
    """A denoising network: `network(x [b t c h w], t [b] or [b t], conditions)` returns a tensor
    like x. `device` and `dtype` are those of its weights."""

    @property
    def spec(self) -> NetworkSpec: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def dtype(self) -> torch.dtype: ...
    def __call__(self, x: Tensor, t: Tensor, conditions: Conditions) -> Tensor: ...


def frame_rate_ids(ids: Mapping[str, int | None], rate: int | None) -> dict[str, Any]:
    """The frame-rate class as ids, for a network that reads these `ids`.

    A network that reads the rate was trained with one in every step, 0 being the usual one; others
    get none. Raises ValueError for a class that it does not have.
    """
    if FRAME_RATE not in ids:
        return {}
    rate, known = rate or 0, ids[FRAME_RATE]
    if known is not None and not 0 <= rate < known:
        raise ValueError(f"the frame-rate class {rate} must lie in 0 .. {known - 1}")
    return {FRAME_RATE: torch.tensor([rate])}


def first_frame_text(text: Tensor | None) -> Tensor | None:
    """One prompt per video [b, n, d]: the first frame's where every frame has its own."""
    return text[:, 0] if text is not None and text.ndim == 4 else text
