"""Image tokens and the frame rate in a CONDITIONING, for networks made for video.

ComfyUI passes both on to the model class under these names; the standalone host reads them itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ....core.networks.conditions import NetworkSpec
from ....core.networks.factorised_unet import FRAMES_PER_SECOND

IMAGE_TOKENS, RATE = "videoldm_image_tokens", "videoldm_frame_rate"


def with_image(conditioning: Sequence, tokens: Tensor) -> list:
    """The same prompts, each with the image tokens [1 n d]."""
    return [[text, {**more, IMAGE_TOKENS: tokens}] for text, more in conditioning]


def image_of(conditioning: Sequence) -> Tensor | None:
    """The image tokens [1 n d] of the first prompt, None without."""
    return conditioning[0][1].get(IMAGE_TOKENS)


def beside(image: Tensor | None, text: Tensor | None) -> Tensor | None:
    """Image tokens [b n d] in the rank of the text tokens: expanded to [b t n d] if every frame has
    its own prompt."""
    if image is None or text is None or text.ndim == image.ndim:
        return image
    return image[:, None].expand(-1, text.shape[1], -1, -1)


def rate_ids(spec: NetworkSpec, rate: Tensor | None) -> dict[str, Tensor]:
    """The frame rate [b] as an id, if it is known and the network reads one; else {}."""
    if rate is None or FRAMES_PER_SECOND not in spec.ids:
        return {}
    return {FRAMES_PER_SECOND: rate}


def rate_of(conditioning: Sequence) -> Tensor | None:
    """The frame rate [1] of the first prompt, None without."""
    rate = conditioning[0][1].get(RATE)
    return None if rate is None else torch.atleast_1d(torch.as_tensor(rate))
