"""Prompts to CONDITIONING by two text encoders side by side, whose tokens stand one behind the
other in width; the second also answers to the prompt as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ....core.text.encoders import behind_layer, encode_text
from .missing_parts import check_boxes
from .prompt import Token
from .prompt_encoder import Conditioning, PromptEncoder

LAYER = -2
"""The last but one, as such models are trained."""
WHOLE = 0
"""In place of a layer: all of them and the final norm."""
Tokens = dict[str, list[list[Token]]]


@dataclass(frozen=True)
class OneOfTwo(PromptEncoder):
    """A text encoder whose condition is that of a layer before its final norm."""

    def stopping_at(self, layer: int) -> OneOfTwo:
        """See `PromptEncoder`; one of more layers than there are means the final norm, as in
        ComfyUI."""
        there = -layer <= self.encoder.config.num_hidden_layers
        return replace(self, stop=layer if there else WHOLE)

    def _run(self, chunks: list[list[Token]]) -> Tensor:
        return self._answers(chunks)[0]

    def encoded(self, chunks: list[list[Token]]) -> Tensor:
        """[1, chunks * n, d] with the weights of the tokens."""
        return self._encoded(chunks)

    def of_whole(self, chunks: list[list[Token]]) -> Tensor:
        """The answer [1, p] to the first chunk as a whole, which weights do not concern."""
        return self._answers(chunks[:1])[1]

    def _answers(self, chunks: list[list[Token]]) -> tuple[Tensor, Tensor | None]:
        encoder, ids = self._given(self.encoder, chunks)
        tokens, whole = behind_layer(encoder, ids, self.stop or LAYER)
        if self.stop == WHOLE:
            tokens = encode_text(encoder, ids)
        return tokens.float(), None if whole is None else whole.float()


@dataclass(frozen=True)
class TwoPromptEncoders:
    """A CLIP of two text encoders, with the methods of `PromptEncoder`; tokens are those of both,
    "l" and "g", as ComfyUI calls them."""

    first: OneOfTwo
    second: OneOfTwo
    box_encoder: None = None

    def clone(self) -> TwoPromptEncoders:
        return self

    def stopping_at(self, layer: int) -> TwoPromptEncoders:
        """The CLIP that takes a layer of both, -1 for the last; see `PromptEncoder`."""
        first, second = (one.stopping_at(layer) for one in (self.first, self.second))
        return replace(self, first=first, second=second)

    def tokenize(self, text: str) -> Tokens:
        return {"l": self.first.tokenize(text), "g": self.second.tokenize(text)}

    def tokenize_apart(self, first: str, second: str) -> Tokens:
        """Tokens of a prompt for each of the two; the shorter one is filled up with empty chunks,
        so that they stand side by side."""
        tokens = {"l": self.first.tokenize(first), "g": self.second.tokenize(second)}
        empty, length = self.tokenize(""), max(map(len, tokens.values()))
        return {
            name: chunks + empty[name] * (length - len(chunks)) for name, chunks in tokens.items()
        }

    @torch.no_grad()
    def encode_from_tokens_scheduled(
        self, tokens: Tokens, *, add_dict: Mapping[str, Any] | None = None
    ) -> Conditioning:
        """A CONDITIONING, with `add_dict` beside its tokens."""
        both = self.first.encoded(tokens["l"]), self.second.encoded(tokens["g"])
        length = min(one.shape[1] for one in both)
        joined = torch.cat([one[:, :length] for one in both], dim=-1)
        more = {"pooled_output": self.second.of_whole(tokens["g"]), **(add_dict or {})}
        return [[joined, more]]

    def encode(self, text: str, boxes: Sequence[Any] = ()) -> Conditioning:
        """A CONDITIONING of one prompt; ValueError for boxes, which such models know nothing of."""
        if boxes:
            check_boxes(boxes, None)
        return self.encode_from_tokens_scheduled(self.tokenize(text))
