"""What a CONDITIONING may carry for networks made for video: tokens of an image, and a frame rate.

ComfyUI hands both on by these names to the model class, and the standalone host reads them itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ....core.networks.conditions import NetworkSpec
from ....core.networks.factorised_unet import FRAMES_PER_SECOND

IMAGE_TOKENS, RATE = "videoldm_image_tokens", "videoldm_frame_rate"


def with_image(conditioning: Sequence, tokens: Tensor) -> list:
    """The same prompts, each with the tokens [1 n d] of an image."""
    return [[text, {**more, IMAGE_TOKENS: tokens}] for text, more in conditioning]


def image_of(conditioning: Sequence) -> Tensor | None:
    """The tokens [1 n d] that the first prompt carries."""
    return conditioning[0][1].get(IMAGE_TOKENS)


def beside(image: Tensor | None, text: Tensor | None) -> Tensor | None:
    """Tokens of an image [b n d] as the network takes them beside those of a text: [b t n d] where
    every frame has a prompt of its own."""
    if image is None or text is None or text.ndim == image.ndim:
        return image
    return image[:, None].expand(-1, text.shape[1], -1, -1)


def rate_ids(spec: NetworkSpec, rate: Tensor | None) -> dict[str, Tensor]:
    """The id of a frame rate [b], of a network that reads one and was told it."""
    if rate is None or FRAMES_PER_SECOND not in spec.ids:
        return {}
    return {FRAMES_PER_SECOND: rate}


def rate_of(conditioning: Sequence) -> Tensor | None:
    """The frame rate [1] that the first prompt carries."""
    rate = conditioning[0][1].get(RATE)
    return None if rate is None else torch.atleast_1d(torch.as_tensor(rate))
