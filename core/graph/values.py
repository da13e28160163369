"""Checking the plain values of inputs, and turning them into the type the input has."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

from .schema import InputSpec, did_you_mean

TRUE, FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
SHOWN_CHOICES = 12


def coerce(value: Any, spec: InputSpec) -> Any:
    """Return the value in the input's type; raises ValueError with the expected and given value.

    Numbers may come as text ("20"); whole floats count as INT; texts accept any scalar.
    """
    if spec.is_combo or spec.type not in _READERS:
        return value
    return _READERS[spec.type](value)


def check(value: Any, spec: InputSpec) -> Any:
    """`coerce`, then hold the value against the range or the choices; raises ValueError."""
    value = coerce(value, spec)
    if spec.is_combo:
        _check_choice(value, spec)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        low, high = spec.minimum, spec.maximum
        if (low is not None and value < low) or (high is not None and value > high):
            raise ValueError(f"expected {_range(low, high)}, given {_number(value)}")
    return value


def parse(text: str, spec: InputSpec) -> Any:
    """Read a value typed by a user for this input, and check it; raises ValueError."""
    if spec.is_combo and not spec.multiselect:
        return check(next((c for c in spec.choices() if str(c) == text), text), spec)
    if spec.type in _READERS:
        return check(text, spec)
    try:
        return check(json.loads(text), spec)
    except json.JSONDecodeError:
        return check(text, spec)


def show(value: Any) -> str:
    """Write a value for a message, cut to a readable length."""
    text = json.dumps(value, default=repr, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."


def show_choices(choices: Sequence[Any]) -> str:
    if not choices:
        return "nothing (the list is empty)"
    more = f" and {len(choices) - SHOWN_CHOICES} more" if len(choices) > SHOWN_CHOICES else ""
    return ", ".join(map(str, choices[:SHOWN_CHOICES])) + more


def _check_choice(value: Any, spec: InputSpec) -> None:
    choices = spec.choices()
    for one in value if spec.multiselect and isinstance(value, list) else [value]:
        if one not in choices and not (spec.accepts and spec.accepts(one)):
            one_of = "one of " if choices else ""
            raise ValueError(f"expected {one_of}{show_choices(choices)}, given {show(one)}"
                             f"{did_you_mean(one, choices)}")  # fmt: skip


def _range(low: float | None, high: float | None) -> str:
    if low is None:
        return f"at most {_number(high)}"
    if high is None:
        return f"at least {_number(low)}"
    return f"{_number(low)} to {_number(high)}"


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e21 else str(value)


def _read_int(value: Any) -> int:
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            raise ValueError(f"expected a whole number, given {show(value)}") from None
    whole = isinstance(value, float) and value.is_integer()
    if isinstance(value, bool) or not (isinstance(value, int) or whole):
        raise ValueError(f"expected a whole number, given {show(value)}")
    return int(value)


def _read_float(value: Any) -> float:
    try:
        number = math.nan if isinstance(value, (bool, list, dict)) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"expected a finite number, given {show(value)}")
    return number


def _read_bool(value: Any) -> bool:
    text = str(value).lower()
    if isinstance(value, (list, dict)) or text not in (*TRUE, *FALSE):
        raise ValueError(f"expected true or false, given {show(value)}")
    return text in TRUE


def _read_str(value: Any) -> str:
    if value is None or isinstance(value, (list, dict)):
        raise ValueError(f"expected a text, given {show(value)}")
    return str(value)


_READERS: dict[str, Callable[[Any], Any]] = {
    "INT": _read_int,
    "FLOAT": _read_float,
    "BOOLEAN": _read_bool,
    "STRING": _read_str,
}
