"""Names that nodes offer for the embedded models, beside the files of the models folders."""

from __future__ import annotations

from ...choices import EMBEDDED, EMBEDDED_LAYERS


def embedded_part(name: str) -> str | None:
    """The part of the embedded family that "embedded: text to video" and its kin name, as its file
    is called ("text_to_video"); None for the name of a file, ValueError for another part."""
    prefix, _, part = name.partition(": ")
    if prefix != EMBEDDED or not part:
        return None
    if name not in EMBEDDED_LAYERS:
        known = ", ".join(EMBEDDED_LAYERS)
        raise ValueError(f"there are no embedded temporal layers {name!r}: choose one of {known}")
    return part.replace(" ", "_")
