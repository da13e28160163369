"""Weighted prompts as in ComfyUI, "(stress) (a lot of stress:1.4)", to chunks of tokens.

A pair of brackets multiplies the weight by 1.1, a number after a colon sets it. `\\(` and `\\)` are
literal brackets. Tokens that do not fit into one chunk continue in the next. "embedding:NAME"
stands for the vectors of a textual inversion.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

from ....core.graph.messages import shown
from ....core.graph.prompt_limits import require_readable

Weighted = tuple[str, float]
Token = tuple["int | Tensor", float]
"""A token's id, or a vector [d] that replaces its embedding, and its weight."""


class Inversions(NamedTuple):
    """load(name) returns the vectors [n, d] of a textual inversion or None; warn(sentence) tells
    the user about names that are ignored or read as words."""

    load: Callable[[str], Tensor | None]
    warn: Callable[[str], None]


STRESS = 1.1
WHOLE = 8
"""Groups with fewer tokens than this are not split over two chunks."""

_PART = re.compile(r"\\[()]|[()]|[^()\\]+|\\")
_INVERSION = "embedding:"
_BEFORE_INVERSION = re.compile(rf"(?<=\s)(?={_INVERSION})")
_NAME = re.compile(rf"{_INVERSION}\s*([^\s<\[]*)")
_ANY_SPELLING = re.compile(rf"{_INVERSION}\s*[^\s,]+", re.IGNORECASE)
_NUMBER = re.compile(r"(.+):\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*", re.DOTALL)


def weighted_parts(text: str, weight: float = 1.0) -> Iterator[Weighted]:
    """Split a prompt into (text, weight); unbalanced brackets are plain text."""
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
    """Split at the outermost brackets into (part, whether it is bracketed)."""
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


def words_alone(text: str) -> str:
    """A prompt without brackets, weights and names of textual inversions."""
    return " ".join(_ANY_SPELLING.sub(" ", part) for part, _ in weighted_parts(text))


def tokens_of(
    text: str, tokenizer: Any, length: int, inversions: Inversions | None = None
) -> list[list[Token]]:
    """Chunks of exactly `length` (token, weight), each with begin and end tokens and padding; the
    empty prompt is one chunk.

    Without `inversions` their names are words. Raises ValueError for a prompt that is too long or
    too deeply nested.
    """
    require_readable(text)
    room = length - 2
    chunks: list[list[Token]] = [[]]
    for group in _groups(text, tokenizer, inversions):
        whole = len(group) < WHOLE
        while group:
            free = room - len(chunks[-1])
            if len(group) <= free:
                taken = len(group)
            else:
                # Short groups stay together, unless even a new chunk is too short for them.
                taken = 0 if whole and free < room else free
            chunks[-1] += group[:taken]
            group = group[taken:]
            if group:
                chunks.append([])
    return [_closed(chunk, tokenizer, length) for chunk in chunks]


def _groups(text: str, tokenizer: Any, inversions: Inversions | None) -> Iterator[list[Token]]:
    """The tokens of each part of equal weight, and of each textual inversion."""
    for part, weight in weighted_parts(text):
        for piece in _BEFORE_INVERSION.split(part):
            if inversions is not None and piece.startswith(_INVERSION):
                vectors, piece = _inversion(piece, inversions)
                yield [(one, weight) for one in vectors]
            if piece:
                _warn_of_words(piece, inversions)
                ids = tokenizer(piece, add_special_tokens=False)["input_ids"]
                yield [(int(one), weight) for one in ids]


def _inversion(piece: str, inversions: Inversions) -> tuple[Sequence[Tensor], str]:
    """The vectors of the inversion that a piece begins with, and the text after its name."""
    match = _NAME.match(piece)
    name, rest = match[1], piece[match.end() :].strip()
    vectors, bare = inversions.load(name), name.rstrip(",")
    if vectors is None and bare != name:
        vectors, rest = inversions.load(bare), f"{name[len(bare) :]} {rest}"
    if vectors is None:
        name = shown(bare)
        inversions.warn(f"there is no textual inversion {name!r} in models/embeddings, ignored")
    return (() if vectors is None else vectors), rest


def _warn_of_words(piece: str, inversions: Inversions | None) -> None:
    match = _ANY_SPELLING.search(piece) if inversions is not None else None
    if match:
        inversions.warn(
            f"{match[0]!r} is read as words: a textual inversion is written embedding:NAME, in "
            "small letters and behind a space"
        )


def _closed(chunk: Sequence[Token], tokenizer: Any, length: int) -> list[Token]:
    ends = (tokenizer.bos_token_id, 1.0), (tokenizer.eos_token_id, 1.0)
    padding = [(tokenizer.pad_token_id, 1.0)] * (length - 2 - len(chunk))
    return [ends[0], *chunk, ends[1], *padding]
