"""CLIP_VISION of models that read image tokens along with text tokens."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from ....core.families.open_clip_image import squashed_pixels
from ....core.families.video_parts import VideoParts


class ImagePrompter(nn.Module):
    """An image encoder and the resampler that turns its features into prompt tokens.

    patcher: the host's, which moves it between devices; None if it stays where it is.
    """

    patcher: Any = None

    def __init__(self, found: VideoParts):
        super().__init__()
        self.encoder, self.resampler = found.image_encoder, found.resampler
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def tokens(self, pixels: Tensor) -> Tensor:
        """Tokens [n k d], float32, of pixels [n 3 h w] in [-1, 1]."""
        like = self.resampler.queries
        shown = squashed_pixels(pixels.float(), self.encoder.config.image_size).to(like)
        return self.resampler(self.encoder(shown).last_hidden_state).float()

    def encode_image(self, image: Tensor, *args: Any, **more: Any) -> NoReturn:
        """ComfyUI's method; always raises ValueError, as the model reads no such embeddings."""
        raise ValueError("the model reads an image together with a prompt: use Image Prompt")


def check_prompter(clip_vision: Any) -> None:
    """Raise ValueError for a CLIP_VISION that makes no prompt tokens."""
    if not isinstance(clip_vision, ImagePrompter):
        raise ValueError(
            "this CLIP_VISION makes no tokens to put beside a prompt: connect that of a model that "
            "reads an image together with a prompt, or use Start Image"
        )
