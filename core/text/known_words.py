"""Closed vocabularies: the few words that a text encoder was trained on."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

ALIKE = 0.6
"""Least similarity of two spellings, 0 .. 1 (Ratcliff and Metzener 1988)."""
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*|\d+")


def words_of(text: str) -> list[str]:
    """The distinct words and numbers of a text, in lower case and in order."""
    return list(dict.fromkeys(_WORD.findall(text.lower())))


@dataclass(frozen=True)
class KnownWords:
    """All words that a model was trained on, in lower case."""

    words: frozenset[str]

    def unknown(self, text: str) -> list[str]:
        """The words of a text that the model does not know."""
        return [word for word in words_of(text) if word not in self.words]

    def nearest(self, word: str) -> str | None:
        """The known word that is spelled most like `word`; None if none is similar."""
        found = difflib.get_close_matches(word.lower(), sorted(self.words), n=1, cutoff=ALIKE)
        return found[0] if found else None
