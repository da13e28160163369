"""Prompts to CONDITIONING by two text encoders, whose tokens are concatenated along the width; the
second one also gives the pooled text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ....core.text.encoders import encode_text, hidden_states_after
from .missing_parts import check_boxes
from .prompt import Token
from .prompt_encoder import Conditioning, PromptEncoder

LAYER = -2
"""The penultimate layer, as such models are trained."""
WHOLE = 0
"""Instead of a layer's number: all layers and the final norm."""
Tokens = dict[str, list[list[Token]]]


@dataclass(frozen=True)
class OneOfTwo(PromptEncoder):
    """A text encoder whose tokens are the output of one layer, before the final norm."""

    def stopping_at(self, layer: int) -> OneOfTwo:
        """See `PromptEncoder`; a layer before the first means all of them and the final norm, as in
        ComfyUI."""
        there = -layer <= self.encoder.config.num_hidden_layers
        return replace(self, stop=layer if there else WHOLE)

    def _run(self, chunks: list[list[Token]]) -> Tensor:
        return self._answers(chunks)[0]

    def encoded(self, chunks: list[list[Token]]) -> Tensor:
        """Tokens [1, chunks * n, d], weights applied."""
        return self._encoded(chunks)

    def of_whole(self, chunks: list[list[Token]]) -> Tensor:
        """The pooled text [1, p] of the first chunk; weights do not affect it."""
        return self._answers(chunks[:1])[1]

    def _answers(self, chunks: list[list[Token]]) -> tuple[Tensor, Tensor | None]:
        encoder, ids = self._given(self.encoder, chunks)
        tokens, whole = hidden_states_after(encoder, ids, self.stop or LAYER)
        if self.stop == WHOLE:
            tokens = encode_text(encoder, ids)
        return tokens.float(), None if whole is None else whole.float()


@dataclass(frozen=True)
class TwoPromptEncoders:
    """A CLIP with two text encoders and the methods of `PromptEncoder`; tokens are a dict with "l"
    for the first and "g" for the second, as in ComfyUI."""

    first: OneOfTwo
    second: OneOfTwo
    box_encoder: None = None

    def clone(self) -> TwoPromptEncoders:
        return self

    def stopping_at(self, layer: int) -> TwoPromptEncoders:
        """The CLIP that stops at this layer in both encoders; see `PromptEncoder`."""
        first, second = (one.stopping_at(layer) for one in (self.first, self.second))
        return replace(self, first=first, second=second)

    def tokenize(self, text: str) -> Tokens:
        return {"l": self.first.tokenize(text), "g": self.second.tokenize(text)}

    def tokenize_apart(self, first: str, second: str) -> Tokens:
        """The tokens of one prompt for each encoder, the shorter one padded with empty chunks to
        the length of the other."""
        tokens = {"l": self.first.tokenize(first), "g": self.second.tokenize(second)}
        empty, length = self.tokenize(""), max(map(len, tokens.values()))
        return {
            name: chunks + empty[name] * (length - len(chunks)) for name, chunks in tokens.items()
        }

    @torch.no_grad()
    def encode_from_tokens_scheduled(
        self, tokens: Tokens, *, add_dict: Mapping[str, Any] | None = None
    ) -> Conditioning:
        """A CONDITIONING; `add_dict` is added to its dict."""
        both = self.first.encoded(tokens["l"]), self.second.encoded(tokens["g"])
        length = min(one.shape[1] for one in both)
        joined = torch.cat([one[:, :length] for one in both], dim=-1)
        more = {"pooled_output": self.second.of_whole(tokens["g"]), **(add_dict or {})}
        return [[joined, more]]

    def encode(self, text: str, boxes: Sequence[Any] = ()) -> Conditioning:
        """A CONDITIONING of one prompt; ValueError for boxes, which such models do not read."""
        if boxes:
            check_boxes(boxes, None)
        return self.encode_from_tokens_scheduled(self.tokenize(text))
