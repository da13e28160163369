"""Prompts extended with image tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..host.shared.image_prompter import check_prompter
from ..host.shared.image_tokens import RATE, with_image

if TYPE_CHECKING:
    from ..host.interface import Conditioning, Host, Wire


def with_image_prompt(
    host: Host, prompts: tuple[Conditioning, Conditioning], clip_vision: Wire, image: Tensor,
    fps: int,
) -> list[Conditioning]:  # fmt: skip
    """Add the image to the positive prompt and mid-grey to the negative one, as the published
    models do."""
    check_prompter(clip_vision)
    pixels = host.pixels(image[:1])[0]
    shown = pixels, torch.zeros_like(pixels)
    rate = {RATE: torch.tensor([float(fps)])}
    found = []
    for prompt, seen in zip(prompts, shown, strict=True):
        extended = with_image(prompt, host.image_tokens(clip_vision, seen))
        found.append([[text, {**more, **rate}] for text, more in extended])
    return found
