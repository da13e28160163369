"""A CLIP for models that were trained without text, for nodes that require a prompt."""

from __future__ import annotations

from typing import Any


class EmptyPromptClip:
    """Accepts only the empty prompt and encodes it to a single zero token of width 1."""

    box_encoder = None

    def clone(self, *args: Any, **more: Any) -> EmptyPromptClip:
        return self

    def tokenize(self, text: str, **more: Any) -> str:
        """Raises ValueError for words, which would have no effect."""
        if text.strip():
            raise ValueError(
                f"the model was trained without text, but the prompt has {len(text.split())} words:"
                " leave it empty"
            )
        return ""

    def encode_from_tokens_scheduled(self, tokens: str, **more: Any) -> list:
        import torch

        return [[torch.zeros(1, 1, 1), {"pooled_output": None}]]

    def encode(self, text: str, *args: Any) -> list:
        return self.encode_from_tokens_scheduled(self.tokenize(text))
