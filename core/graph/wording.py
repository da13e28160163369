"""Counts in messages."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: "1 frame", "2 frames"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
