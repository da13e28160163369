"""Words in prompts that a model trained on a closed vocabulary has never seen."""

from __future__ import annotations

from ....core.graph.messages import shown
from ....core.text.known_words import KnownWords

MOST = 8
"""Unknown words that a warning lists."""


def unknown_words(text: str, known: KnownWords | None) -> str:
    """A warning about words outside the vocabulary, "" if there are none or it is open (None)."""
    found = known.unknown(text) if known is not None else []
    if not found:
        return ""
    named = [_named(word, known) for word in found[:MOST]]
    named += [f"{len(found) - MOST} more"] if len(found) > MOST else []
    listed = " and ".join(filter(None, (", ".join(named[:-1]), named[-1])))
    few = "word" if len(found) == 1 else "words"
    return (
        f"the model has never seen the {few} {listed}: it was trained with {len(known.words)} "
        "words; the help page of Load Image Model lists those of the model that comes with the pack"
    )


def _named(word: str, known: KnownWords) -> str:
    near = known.nearest(word)
    return f'"{shown(word)}"' + (f' (nearest: "{near}")' if near else "")
