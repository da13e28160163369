"""Prompts to CONDITIONING: the standalone host's CLIP, and the core of this pack's CLIP in
ComfyUI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from ....core.text.encoders import BoxEncoder, box_tensors, encode_text
from ....core.text.known_words import KnownWords
from ....core.text.text_variants import first_layers, with_vectors
from .embeddings import Embeddings
from .missing_parts import check_boxes
from .prompt import Inversions, Token, tokens_of, words_alone
from .unknown_words import unknown_words

Conditioning = list


@dataclass(frozen=True)
class PromptEncoder:
    """A CLIP text encoder and its tokenizer, with ComfyUI's methods.

    A model that was trained with bounding boxes always gets box tokens after the text, those of
    "no box" if there are none. embeddings: textual inversions; None reads their names as words.
    stop: the last layer to use, counted back from -1, the last of the published encoder, of which
    the last `dropped` were not loaded; None for the last that was. known_words: the closed
    vocabulary of the training prompts, other words give a warning; None for an open one.
    """

    encoder: nn.Module
    tokenizer: Any
    length: int
    box_encoder: BoxEncoder | None = None
    embeddings: Embeddings | None = None
    dropped: int = 0
    stop: int | None = None
    known_words: KnownWords | None = None

    def clone(self) -> PromptEncoder:
        return self

    def stopping_at(self, layer: int) -> PromptEncoder:
        """The CLIP that stops at a layer of the published encoder, -1 for its last; a layer before
        the first means the last. ValueError for a layer that was not loaded."""
        layers = self.encoder.config.num_hidden_layers + self.dropped
        layer = layer if -layer <= layers else -1
        if -layer <= self.dropped:
            raise ValueError(
                f"layer {layer} of the text encoder was asked for, but the last {self.dropped} of "
                f"its {layers} layers were left out, as the model was trained: it uses layer "
                f"-{self.dropped + 1}"
            )
        return replace(self, stop=layer)

    @property
    def device(self) -> torch.device:
        return next(self.encoder.parameters()).device

    def tokenize(self, text: str) -> list[list[Token]]:
        """Chunks of `length` (token, weight); a token is an id or an inversion's vector [d]."""
        inversions = Inversions(self.embeddings.load, _warn) if self.embeddings else None
        tokens = tokens_of(text, self.tokenizer, self.length, inversions)
        self._check_words(words_alone(text))
        return tokens

    def encode_from_tokens_scheduled(self, tokens: list[list[Token]]) -> Conditioning:
        return self._conditioning(tokens, [])

    def encode(self, text: str, boxes: Sequence[Any] = ()) -> Conditioning:
        """A CONDITIONING of one prompt, with the tokens of `boxes` (label, x0, y0, x1, y1) after
        it. Raises ValueError for boxes if the model was not trained with any.
        """
        if boxes:
            check_boxes(boxes, self.box_encoder)
            self._check_words(" ".join(box.label for box in boxes))
        return self._conditioning(self.tokenize(text), boxes)

    def _check_words(self, text: str) -> None:
        sentence = unknown_words(text, self.known_words)
        if sentence:
            _warn(sentence)

    @torch.no_grad()
    def _conditioning(self, tokens: list[list[Token]], boxes: Sequence[Any]) -> Conditioning:
        output = self._encoded(tokens)
        if self.box_encoder is not None:
            output = torch.cat([output, self._box_tokens(boxes).to(output)], dim=1)
        return [[output, {"pooled_output": None}]]

    def _encoded(self, chunks: list[list[Token]]) -> Tensor:
        """[1, chunks * n, d]; weights scale each token's difference to the empty prompt's."""
        weights = torch.tensor([[weight for _, weight in chunk] for chunk in chunks])
        output = self._run(chunks)
        if bool((weights != 1).any()):
            nothing = self._run(tokens_of("", self.tokenizer, self.length))
            output = nothing + (output - nothing) * weights[..., None].to(output)
        return rearrange(output, "b n d -> 1 (b n) d")

    def _run(self, chunks: list[list[Token]]) -> Tensor:
        """The encoder's output [chunks, n, d], without the weights."""
        encoder = self.encoder
        if self.stop is not None:
            layers = encoder.config.num_hidden_layers
            encoder = first_layers(encoder, layers + self.dropped + self.stop + 1)
        return encode_text(*self._given(encoder, chunks)).float()

    def _given(self, encoder: nn.Module, chunks: list[list[Token]]) -> tuple[nn.Module, Tensor]:
        """The encoder, extended by the vectors among the tokens, and the ids [chunks, n]."""
        ids, vectors = self._numbered(chunks)
        if vectors:
            encoder = with_vectors(encoder, torch.stack(vectors))
        return encoder, torch.tensor(ids).to(self.device)

    def _numbered(self, chunks: list[list[Token]]) -> tuple[list[list[int]], list[Tensor]]:
        """The ids of all tokens, and the vectors, whose ids follow the vocabulary in order.

        Vectors of another width are dropped, and their chunk is padded at the end instead.
        """
        words, width = self.encoder.get_input_embeddings().weight.shape
        rows: list[list[int]] = []
        vectors: list[Tensor] = []
        wrong: set[int] = set()
        for chunk in chunks:
            row = []
            for token, _ in chunk:
                if isinstance(token, int):
                    row.append(token)
                elif token.shape[-1] == width:
                    row.append(words + len(vectors))
                    vectors.append(token)
                else:
                    wrong.add(token.shape[-1])
            rows.append(row + [self.tokenizer.pad_token_id] * (len(chunk) - len(row)))
        for one in sorted(wrong):
            _warn(
                f"a textual inversion of width {one} does not fit the text encoder of width "
                f"{width}, ignored"
            )
        return rows, vectors

    def _box_tokens(self, boxes: Sequence[Any]) -> Tensor:
        corners, labels, present = box_tensors([boxes], self.tokenizer, self.box_encoder.slots)
        there = next(self.box_encoder.parameters())
        return self.box_encoder(
            corners.to(there), labels.to(there.device), present.to(there.device)
        )


def _warn(sentence: str) -> None:
    from .. import host

    host.warn(sentence)
