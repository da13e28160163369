"""Workflows as JSON text: read as the frontend reads them, written as strict JSON.

Python writes NaN and Infinity, which are not JSON. The frontend reads them as null; so does this
module, and it writes null for them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

LONGEST_TEXT = 8_000_000  # characters; bounds the memory for parsing, far above real workflows
LONGEST_NUMBER = 4000  # digits
DEEPEST = 100  # levels of lists and objects


def read_json(text: str | bytes) -> Any:
    """Parse a JSON text; raises ValueError with one reason, syntax errors with their position."""
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"it is {len(text):,} characters long, at most {LONGEST_TEXT:,} are read")
    try:
        value = json.loads(
            text, parse_constant=lambda name: None, parse_float=_finite, parse_int=_whole
        )
    except json.JSONDecodeError as error:
        where = f"at line {error.lineno} column {error.colno}"
        raise ValueError(f"{error.msg} {where}") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    _refuse_depth(value)
    return value


def write_json(value: Any) -> str:
    """Return strict JSON, with null for NaN and infinite numbers."""
    return json.dumps(_plain(value), allow_nan=False)


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def _whole(text: str) -> int:
    if len(text) > LONGEST_NUMBER:
        raise ValueError(f"it holds a number of {len(text)} digits, at most {LONGEST_NUMBER} are "
                         "read")  # fmt: skip
    return int(text)


def _refuse_depth(value: Any) -> None:
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > DEEPEST:
            raise ValueError(f"it is nested too deeply, more than {DEEPEST} levels")
        level = [inner for one in level if isinstance(one, (list, dict)) for inner in _inside(one)]


def _inside(container: list | dict) -> Any:
    return container.values() if isinstance(container, dict) else container


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value
