"""Which captions evaluation may ask for, and the training of the whole family passes over."""

from __future__ import annotations

import hashlib


def reserved(caption: str) -> bool:
    """Whether a caption belongs to the half of all captions that evaluation may ask for. Words and
    pairs of words are in both halves, only whole captions are not."""
    return hashlib.blake2b(caption.encode(), digest_size=1).digest()[0] % 2 == 0
