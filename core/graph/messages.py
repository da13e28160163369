"""Formats names, numbers and reasons for messages: printable, short and on one line."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

LONGEST_NAME = 80
# Python refuses to convert integers of more than 4300 digits to text.
LARGEST_WRITTEN = 14_000  # bits


def printable(text: str) -> str:
    """Return `text` with control characters, lone surrogates and bidirectional marks escaped."""
    if text.isprintable():
        return text
    return "".join(one if _is_plain(one) else _escape(one) for one in text)


def shown(name: Any, limit: int = LONGEST_NAME) -> str:
    """Return a name for a message: printable, cut to `limit` characters."""
    if isinstance(name, int) and name.bit_length() > LARGEST_WRITTEN:
        return f"a number of about {int(name.bit_length() * 0.30103) + 1} digits"
    text = str(name)
    # Escapes lengthen it, so cut both before (for speed) and after.
    text = printable(text[: limit + 1])
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def shown_path(path: Any) -> str:
    """Return a path for a message: printable; long ones are cut at the start."""
    text = printable(str(path))
    return text if len(text) <= LONGEST_NAME else f"...{text[3 - LONGEST_NAME :]}"


def written(value: Any) -> str:
    """Return a value for a message as JSON, cut to a readable length."""
    if isinstance(value, int) and not isinstance(value, bool):
        return shown(value)
    if isinstance(value, str):
        value = value[: LONGEST_NAME + 1]
    try:
        return shown(json.dumps(value, default=repr, ensure_ascii=False))
    except (ValueError, RecursionError):
        return f"a {type(value).__name__} that cannot be written"


def kind_of(value: Any) -> str:
    """Return the kind of a JSON value: "null", "a list", ..."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    kinds = {"a text": str, "a number": (int, float), "a list": list, "an object": dict}
    return next((kind for kind, types in kinds.items() if isinstance(value, types)), "no JSON")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type if there is none.

    System errors come without their number: "permission denied: /a/file".
    """
    message = str(error)
    system = getattr(error, "strerror", None)  # OSError and PyAV's FFmpeg errors have one.
    if system:
        message = system[:1].lower() + system[1:]
        message += f": {shown_path(error.filename)}" if error.filename else ""
    lines = message.strip().splitlines()
    text = lines[0].strip() if lines else ""
    text = text if text.endswith("...") else text.rstrip(".")
    return printable(text) or type(error).__name__


def _is_plain(letter: str) -> bool:
    return letter.isprintable() or unicodedata.category(letter) == "Zs"


def _escape(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
