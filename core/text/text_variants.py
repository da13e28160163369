"""Text encoders that stop at an earlier layer, or that have additional token vectors.

Both share the weights of the encoder that they are made from, which is not modified.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import CLIPTextModel

from ..weights.cloning import shared_clone


def first_layers(encoder: CLIPTextModel, count: int) -> CLIPTextModel:
    """The encoder cut after `count` of its layers, with its final norm ("clip skip")."""
    have = encoder.config.num_hidden_layers
    if not 1 <= count <= have:
        raise ValueError(f"cannot use {count} of the {have} layers of the text encoder")
    if count == have:
        return encoder
    ending = shared_clone(encoder)
    del getattr(ending, "text_model", ending).encoder.layers[count:]
    ending.config.num_hidden_layers = count
    return ending


class WordsAndVectors(nn.Module):
    """A table of token embeddings, extended by some vectors."""

    def __init__(self, words: nn.Embedding, vectors: Tensor):
        super().__init__()
        self.words = words
        self.register_buffer("vectors", vectors.to(words.weight))

    @property
    def weight(self) -> Tensor:
        return self.words.weight

    def forward(self, ids: Tensor) -> Tensor:
        """Embeddings [..., d] of ids [...]; id k + number of words is vector k."""
        count = len(self.words.weight)
        found = self.words(ids.clamp(max=count - 1))
        return torch.where(
            (ids < count)[..., None], found, self.vectors[(ids - count).clamp(min=0)]
        )


def with_vectors(encoder: CLIPTextModel, vectors: Tensor) -> CLIPTextModel:
    """The encoder with vectors [n, d] as additional tokens, in this order (Gal et al. 2022)."""
    words = encoder.get_input_embeddings()
    if vectors.shape[1:] != words.weight.shape[1:]:
        raise ValueError(
            f"vectors of width {vectors.shape[-1]} do not fit a text encoder of width "
            f"{words.weight.shape[-1]}"
        )
    extended = shared_clone(encoder)
    extended.set_input_embeddings(WordsAndVectors(words, vectors))
    return extended
