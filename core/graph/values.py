"""Checks plain input values and converts them to the input's type."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from .json_text import read_json
from .messages import printable, shown, written
from .prompt_limits import prompt_fault
from .schema import InputSpec, did_you_mean

TRUE, FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
SHOWN_CHOICES = 12
# Prefix of sampler names until spring 2023.
OLD_SAMPLER, SAMPLER_INPUTS = "sample_", ("sampler_name", "sampler")


def coerce(value: Any, spec: InputSpec) -> Any:
    """Convert a value to the input's type; raises ValueError with the expected and given value.

    Numbers may be text ("20"), INT accepts whole floats, and STRING any scalar.
    """
    if spec.is_combo:
        return current_choice(value, spec)
    return _READERS[spec.type](value) if spec.type in _READERS else value


def current_choice(value: Any, spec: InputSpec) -> Any:
    """Return the combo's choice for a value in an outdated or foreign spelling.

    Paths are saved with the separators of the system they come from, and samplers were called
    "sample_euler" until 2023. Any other value is returned unchanged.
    """
    if spec.multiselect and isinstance(value, list):
        return [_choice_of(one, spec) for one in value]
    return _choice_of(value, spec)


def _choice_of(value: Any, spec: InputSpec) -> Any:
    is_old = isinstance(value, str) and value.startswith(OLD_SAMPLER)
    # Avoid listing the choices, which may mean listing files, if no spelling can differ.
    if not isinstance(value, str) or not (is_old or "/" in value or "\\" in value):
        return value
    choices = [one for one in spec.choices() if isinstance(one, str)]
    if value in choices:
        return value
    same = [one for one in choices if _slashed(one) == _slashed(value)]
    if is_old and spec.name.rpartition(".")[2] in SAMPLER_INPUTS:
        same += [one for one in choices if one == value.removeprefix(OLD_SAMPLER)]
    return same[0] if same else value


def _slashed(name: str) -> str:
    return name.replace("\\", "/")


def check(value: Any, spec: InputSpec) -> Any:
    """`coerce`, then check the range or the choices; raises ValueError."""
    value = coerce(value, spec)
    fault = prompt_fault(value) if spec.dynamic_prompts and isinstance(value, str) else None
    if fault:
        raise ValueError(f"is {fault}")
    if spec.is_combo:
        _check_choice(value, spec)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        low, high = spec.minimum, spec.maximum
        if (low is not None and value < low) or (high is not None and value > high):
            raise ValueError(f"expected {_range(low, high)}, given {_number(value)}")
    return value


def parse(text: str, spec: InputSpec) -> Any:
    """Parse a value typed by a user for this input, and check it; raises ValueError."""
    if spec.is_combo and not spec.multiselect:
        return check(next((c for c in spec.choices() if str(c) == text), text), spec)
    if spec.type in _READERS:
        return check(text, spec)
    return check(_json_or_text(text), spec)


def _json_or_text(text: str) -> Any:
    try:
        return read_json(text)
    except ValueError:
        return text


def show_choices(choices: Sequence[Any]) -> str:
    if not choices:
        return "nothing (the list is empty)"
    more = f" and {len(choices) - SHOWN_CHOICES} more" if len(choices) > SHOWN_CHOICES else ""
    return ", ".join(map(shown, choices[:SHOWN_CHOICES])) + more


def _check_choice(value: Any, spec: InputSpec) -> None:
    choices = spec.choices()
    for one in value if spec.multiselect and isinstance(value, list) else [value]:
        if one not in choices and not (spec.accepts and spec.accepts(one)):
            one_of = "one of " if choices else ""
            raise ValueError(f"expected {one_of}{show_choices(choices)}, given {written(one)}"
                             f"{did_you_mean(one, choices)}")  # fmt: skip


def _range(low: float | None, high: float | None) -> str:
    if low is None:
        return f"at most {_number(high)}"
    if high is None:
        return f"at least {_number(low)}"
    return f"{_number(low)} to {_number(high)}"


def _number(value: float) -> str:
    if isinstance(value, int):
        return shown(value)
    return str(int(value)) if value.is_integer() and abs(value) < 1e21 else str(value)


def _read_int(value: Any) -> int:
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            raise ValueError(f"expected a whole number, given {written(value)}") from None
    whole = isinstance(value, float) and value.is_integer()
    if isinstance(value, bool) or not (isinstance(value, int) or whole):
        raise ValueError(f"expected a whole number, given {written(value)}")
    return int(value)


def _read_float(value: Any) -> float:
    try:
        number = math.nan if isinstance(value, (bool, list, dict)) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"expected a finite number, given {written(value)}")
    return number


def _read_bool(value: Any) -> bool:
    text = value.lower() if isinstance(value, str) else written(value)
    if text not in (*TRUE, *FALSE):
        raise ValueError(f"expected true or false, given {written(value)}")
    return text in TRUE


def _read_str(value: Any) -> str:
    if isinstance(value, str):
        return _without_surrogates(value)
    if value is None or isinstance(value, (list, dict)):
        raise ValueError(f"expected a text, given {written(value)}")
    try:
        return str(value)
    except ValueError:  # Python writes no integers of more than 4300 digits.
        raise ValueError(f"expected a text, given {written(value)}") from None


def _without_surrogates(text: str) -> str:
    """Refuse lone surrogates, which JSON can express but nothing can save or tokenise."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = printable(text[error.start])
        raise ValueError(f"expected a text, given one with a lone surrogate, {half}, at "
                         f"character {error.start + 1}") from None  # fmt: skip
    return text


_READERS: dict[str, Callable[[Any], Any]] = {
    "INT": _read_int,
    "FLOAT": _read_float,
    "BOOLEAN": _read_bool,
    "STRING": _read_str,
}
