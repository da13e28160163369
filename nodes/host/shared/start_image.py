"""The start image of a video in ComfyUI's CONDITIONINGs, under the keys of its own nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from ....core.tasks.segment import SegmentCondition
from ....core.tasks.start_image import StartImage
from .conditioning import text_for

LATENTS = "concat_latent_image"
NUMBERS = {"fps": 6, "motion_bucket_id": 127, "augmentation_level": 0.0}
"""Keys of the frame rate, the amount of motion and the image's noise, with ComfyUI's defaults."""
NEEDS_START_IMAGE = (
    "the model moves a start image, but the {} conditioning carries none: connect the outputs of "
    "Start Image to the inputs positive and negative"
)


def prompts_of(start: StartImage) -> tuple[list, list]:
    """The positive and the negative CONDITIONING of a start image."""
    return _prompt(start), _prompt(start.without_image())


def _prompt(start: StartImage) -> list:
    numbers = dict(zip(NUMBERS, (start.fps, start.motion, start.augmentation), strict=True))
    return [[start.embedding, {**numbers, LATENTS: start.latents}]]


def check_start_image(
    positive: Sequence, negative: Sequence, size: tuple[int, int], factor: int
) -> None:
    """Raise ValueError unless both carry a start image for a video of this size (width, height)."""
    for which, prompt in (("positive", positive), ("negative", negative)):
        for _, more in prompt:
            latents = more.get(LATENTS)
            if latents is None:
                raise ValueError(NEEDS_START_IMAGE.format(which))
            height, width = (factor * side for side in latents.shape[-2:])
            if (width, height) != size:
                raise ValueError(
                    f"the start image was encoded for {width}x{height}, but the video is "
                    f"{size[0]}x{size[1]}: set both nodes to the same width and height"
                )


def start_image_of(
    conditioning: Sequence, condition: SegmentCondition, unscaled: Callable[[Tensor], Tensor]
) -> StartImage:
    """The start image of one branch for a segment. Tokens may differ by frame."""
    more = continued(conditioning[0][1], condition, unscaled)
    if more.get(LATENTS) is None:
        raise ValueError(NEEDS_START_IMAGE.format("given"))
    fps, motion, augmentation = (more.get(name, usual) for name, usual in NUMBERS.items())
    latents = more[LATENTS]
    return StartImage(
        embedding=text_for(conditioning, condition.frames),
        latents=latents if len(latents) == 1 else latents[None],
        fps=fps, motion=motion, augmentation=augmentation,
    )  # fmt: skip


def continued(
    more: Mapping[str, Any], condition: SegmentCondition, unscaled: Callable[[Tensor], Tensor]
) -> dict[str, Any]:
    """The prompt's dict, its image replaced by the segment's first context frame, if it has any.

    unscaled: from the scaled latents of the context to raw ones. A prompt without an image, such as
    the negative one, whose latents are zeros, is left unchanged.
    """
    context, image = condition.context, more.get(LATENTS)
    if context is None or image is None or not bool(context.mask.any()) or not bool(image.any()):
        return dict(more)
    # The segment is an animation of its first context frame.
    first = int(context.mask[0].argmax())
    return {**more, LATENTS: unscaled(context.latents[:, first].float())}
