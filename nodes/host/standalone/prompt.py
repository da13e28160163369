"""Prompts with weights, as ComfyUI reads them: (stress), (a lot of stress:1.4), chunks of tokens.

A pair of brackets multiplies the weight by 1.1, a number after a colon sets it. `\\(` and `\\)` are
plain brackets. What does not fit into one chunk of tokens goes on in the next.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from ....core.prompt_limits import require_readable

Weighted = tuple[str, float]
Token = tuple[int, float]

STRESS = 1.1
WHOLE = 8
"""Groups of fewer tokens than this are not split over two chunks."""

_PART = re.compile(r"\\[()]|[()]|[^()\\]+|\\")
_NUMBER = re.compile(r"(.+):\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*", re.DOTALL)


def weighted_parts(text: str, weight: float = 1.0) -> Iterator[Weighted]:
    """Split a prompt into (text, weight); brackets without their partner are plain text."""
    for inner, is_bracket in _top_level(text):
        if not is_bracket:
            yield inner.replace(r"\(", "(").replace(r"\)", ")"), weight
            continue
        number = _NUMBER.fullmatch(inner)
        if number:
            yield from weighted_parts(number[1], float(number[2]))
        else:
            yield from weighted_parts(inner, weight * STRESS)


def _top_level(text: str) -> Iterator[tuple[str, bool]]:
    """(part, whether it stood in brackets) for the outermost brackets."""
    depth, begin, plain = 0, 0, 0
    for match in _PART.finditer(text):
        if match[0] == "(":
            begin = match.start() if depth == 0 else begin
            depth += 1
        elif match[0] == ")" and depth:
            depth -= 1
            if depth == 0:
                if begin > plain:
                    yield text[plain:begin], False
                yield text[begin + 1 : match.start()], True
                plain = match.end()
    if plain < len(text):
        yield text[plain:], False


def tokens_of(text: str, tokenizer: Any, length: int) -> list[list[Token]]:
    """Chunks of exactly `length` (id, weight), each with its begin and end; one for no text.

    Raises ValueError for a prompt that is too long or too deeply nested.
    """
    require_readable(text)
    room = length - 2
    chunks: list[list[Token]] = [[]]
    for part, weight in weighted_parts(text):
        ids = tokenizer(part, add_special_tokens=False)["input_ids"]
        group = [(int(one), weight) for one in ids]
        while group:
            free = room - len(chunks[-1])
            if len(group) <= free:
                taken = len(group)
            else:
                # Short groups stay together, unless even a new chunk is too short for them.
                taken = free if len(group) >= WHOLE or free == room else 0
            chunks[-1] += group[:taken]
            group = group[taken:]
            if group:
                chunks.append([])
    return [_closed(chunk, tokenizer, length) for chunk in chunks]


def _closed(chunk: Sequence[Token], tokenizer: Any, length: int) -> list[Token]:
    ends = (tokenizer.bos_token_id, 1.0), (tokenizer.eos_token_id, 1.0)
    padding = [(tokenizer.pad_token_id, 1.0)] * (length - 2 - len(chunk))
    return [ends[0], *chunk, ends[1], *padding]
