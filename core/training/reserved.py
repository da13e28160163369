"""The split of captions between `videoldm train family` and evaluation."""

from __future__ import annotations

import hashlib


def reserved(caption: str) -> bool:
    """Whether a caption is reserved for evaluation, as half of them are. Words and pairs of words
    occur in both halves; only whole captions are kept apart."""
    return hashlib.blake2b(caption.encode(), digest_size=1).digest()[0] % 2 == 0
