"""Emphasis in prompts, as ComfyUI reads it: ``(a word)`` counts 1.1, ``(a word:1.3)`` counts 1.3.

A weight moves a token's embedding away from, or towards, the one that the empty prompt has in the
same place. Parentheses nest, factors of 1.1 multiply, a number replaces what stands around it, and
a backslash makes a parenthesis an ordinary character.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from transformers import CLIPTextModel

from ..graph.prompt_limits import require_readable
from .encoders import encode_text

DEFAULT = 1.1
LONGEST_WORD = 8  # tokens; shorter segments are never cut in two
_PARENTHESIS = re.compile(r"\\[()]|[()]")
_ESCAPED = re.compile(r"\\([()])")

Token = tuple[int, float]
"""A token's id and its weight."""


def parse(prompt: str) -> list[tuple[str, float]]:
    """Segments of ``prompt`` with their weights; parentheses without a partner are plain text."""
    segments = ((_ESCAPED.sub(r"\1", text), weight) for text, weight in _weighted(prompt, 1.0))
    return [(text, weight) for text, weight in segments if text]


def _weighted(text: str, weight: float) -> Iterator[tuple[str, float]]:
    depth = opened = plain = 0
    for found in _PARENTHESIS.finditer(text):
        if found[0] == "(":
            opened = opened if depth else found.start()
            depth += 1
        elif found[0] == ")" and depth:
            depth -= 1
            if not depth:
                yield text[plain:opened], weight
                yield from _weighted(*_own_weight(text[opened + 1 : found.start()], weight))
                plain = found.end()
    yield text[plain:], weight


def _own_weight(inside: str, around: float) -> tuple[str, float]:
    """What stands in a pair of parentheses without its number, and the weight it gets."""
    text, colon, number = inside.rpartition(":")
    try:
        return (text, float(number)) if colon and text else (inside, around * DEFAULT)
    except ValueError:
        return inside, around * DEFAULT


# --------------------------------------------------------------------------------------------------
# Tokens.


def tokenize_weighted(tokenizer, prompt: str, length: int = 77) -> list[list[Token]]:
    """Rows of exactly ``length`` tokens: as many as the prompt needs, at least one.

    ``tokenizer`` is transformers' ``CLIPTokenizer`` or our ``ClipTokenizer``. Raises ValueError for
    a length without room for a word, and for a prompt that is too long or too deeply nested.
    """
    require_readable(prompt)
    if length < 3:
        raise ValueError(f"a row of {length} tokens has no room between its first and its last")
    rows: list[list[Token]] = [[]]
    for text, weight in parse(prompt):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        group = [(token, weight) for token in ids]
        while group:
            room = length - 2 - len(rows[-1])
            if len(group) <= room:
                rows[-1] += group
                break
            taken = room if len(group) >= min(LONGEST_WORD, length - 2) else 0
            rows[-1] += group[:taken]
            group = group[taken:]
            rows.append([])
    return [_framed(tokenizer, row, length) for row in rows]


def _framed(tokenizer, row: list[Token], length: int) -> list[Token]:
    """The row between the begin and the end token, filled up."""
    framed = [(tokenizer.bos_token_id, 1.0), *row, (tokenizer.eos_token_id, 1.0)]
    return framed + [(tokenizer.pad_token_id, 1.0)] * (length - len(framed))


# --------------------------------------------------------------------------------------------------
# Embeddings.


def encode_weighted(
    encoder: CLIPTextModel, tokenizer, prompts: Sequence[str], length: int = 77
) -> Tensor:
    """Conditions [b, n, d] with n a multiple of ``length``, the same for all ``prompts``.

    Prompts that need fewer rows than the longest one are filled up with the empty prompt. Without
    any emphasis the embeddings are the text encoder's own.
    """
    empty = tokenize_weighted(tokenizer, "", length)
    rows = [tokenize_weighted(tokenizer, prompt, length) for prompt in prompts]
    longest = max((len(row) for row in rows), default=1)
    rows = [row + empty * (longest - len(row)) for row in rows]
    return torch.stack([_encode_rows(encoder, row, empty[0]) for row in rows])


def _encode_rows(encoder: CLIPTextModel, rows: list[list[Token]], empty: list[Token]) -> Tensor:
    """Condition [n, d] of one prompt: e_0 + w (e - e_0), with e_0 the empty prompt's embedding."""
    device = next(encoder.parameters()).device
    ids = torch.tensor([[token for token, _ in row] for row in [*rows, empty]], device=device)
    *embedded, nothing = encode_text(encoder, ids)
    e, e_0 = torch.stack(embedded), nothing
    w = torch.tensor([[weight for _, weight in row] for row in rows])[..., None].to(e)
    return torch.where(w == 1, e, e_0 + w * (e - e_0)).flatten(0, 1)
