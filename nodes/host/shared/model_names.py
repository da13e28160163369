"""Names that nodes offer for the embedded models, beside the files of the models folders."""

from __future__ import annotations

from ...choices import EMBEDDED


def embedded_part(name: str) -> str | None:
    """The part of the embedded family that "embedded: text to video" and its kin name, as its file
    is called ("text_to_video"); None for the name of a file."""
    prefix, _, part = name.partition(": ")
    return part.replace(" ", "_") if prefix == EMBEDDED and part else None
