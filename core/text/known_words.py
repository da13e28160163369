"""The words that a text encoder was trained with, where these are few: a closed vocabulary."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

ALIKE = 0.6
"""Least similarity of two spellings (Ratcliff and Metzener 1988), of 1."""
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*|\d+")


def words_of(text: str) -> list[str]:
    """The different words and numbers of a text, in small letters and in order."""
    return list(dict.fromkeys(_WORD.findall(text.lower())))


@dataclass(frozen=True)
class KnownWords:
    """All words that a model has ever been shown, in small letters."""

    words: frozenset[str]

    def unknown(self, text: str) -> list[str]:
        """The words of a text that are not among them."""
        return [word for word in words_of(text) if word not in self.words]

    def nearest(self, word: str) -> str | None:
        """The word whose spelling is most like that of `word`; None if none is much like it."""
        found = difflib.get_close_matches(word.lower(), sorted(self.words), n=1, cutoff=ALIKE)
        return found[0] if found else None
