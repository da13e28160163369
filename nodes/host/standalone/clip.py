"""The CLIP of the standalone host: prompts to CONDITIONING."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from ....core.text import BoxEncoder, box_tensors, encode_text
from .prompt import Token, tokens_of

Conditioning = list


@dataclass(frozen=True)
class StandaloneCLIP:
    """A CLIP text encoder with its tokenizer, with ComfyUI's methods.

    A model that was trained with bounding boxes always gets box tokens behind the text, those of
    "no box" when there is none.
    """

    encoder: nn.Module
    tokenizer: Any
    length: int
    box_encoder: BoxEncoder | None = None

    def clone(self) -> StandaloneCLIP:
        return self

    @property
    def device(self) -> torch.device:
        return next(self.encoder.parameters()).device

    def tokenize(self, text: str) -> list[list[Token]]:
        """Chunks of `length` (token, weight)."""
        return tokens_of(text, self.tokenizer, self.length)

    def encode_from_tokens_scheduled(self, tokens: list[list[Token]]) -> Conditioning:
        return self._conditioning(tokens, [])

    def encode(self, text: str, boxes: Sequence[Any] = ()) -> Conditioning:
        """A CONDITIONING of one prompt, with `boxes` (label, x0, y0, x1, y1) behind it.

        Raises ValueError for boxes with an encoder that has never seen any.
        """
        if boxes and self.box_encoder is None:
            raise ValueError(
                f"{len(boxes)} bounding boxes were given, but this CLIP has no box encoder; "
                "only the embedded model's CLIP has one"
            )
        return self._conditioning(self.tokenize(text), boxes)

    @torch.no_grad()
    def _conditioning(self, tokens: list[list[Token]], boxes: Sequence[Any]) -> Conditioning:
        output = self._encoded(tokens)
        if self.box_encoder is not None:
            output = torch.cat([output, self._box_tokens(boxes).to(output)], dim=1)
        return [[output, {"pooled_output": None}]]

    def _encoded(self, chunks: list[list[Token]]) -> Tensor:
        """[1, chunks * n, d]; weights move each token away from what the empty prompt gives."""
        ids = torch.tensor([[one for one, _ in chunk] for chunk in chunks])
        weights = torch.tensor([[weight for _, weight in chunk] for chunk in chunks])
        output = self._run(ids)
        if bool((weights != 1).any()):
            nothing = self._run(torch.tensor([[one for one, _ in self.tokenize("")[0]]]))
            output = nothing + (output - nothing) * weights[..., None].to(output)
        return rearrange(output, "b n d -> 1 (b n) d")

    def _run(self, ids: Tensor) -> Tensor:
        return encode_text(self.encoder, ids.to(self.device)).float()

    def _box_tokens(self, boxes: Sequence[Any]) -> Tensor:
        corners, labels, present = box_tensors([boxes], self.tokenizer, self.box_encoder.slots)
        there = next(self.box_encoder.parameters())
        return self.box_encoder(
            corners.to(there), labels.to(there.device), present.to(there.device)
        )
