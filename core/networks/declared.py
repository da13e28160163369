"""Frozen dataclasses read from files: every value must have the type that its field declares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

KINDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false",
         tuple: "a list", NoneType: "null"}  # fmt: skip

Declared = TypeVar("Declared")


def declare(cls: type[Declared], values: Any, what: str) -> Declared:
    """Build a dataclass from JSON values; ValueError names `what` and the field that is wrong."""
    if not isinstance(values, Mapping):
        raise ValueError(f"{what} must be an object, not {_shown(values)}")
    given = {str(k): tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    known = {one.name: one for one in fields(cls)}
    unknown = sorted(given.keys() - known.keys())
    missing = [name for name, one in known.items() if name not in given and _is_required(one)]
    if unknown or missing:
        fault = (
            f"has an entry {unknown[0][:80]!r}" if unknown else f"lacks the entry {missing[0]!r}"
        )
        raise ValueError(f"{what} {fault}, expected {', '.join(known)}")
    check_kinds(cls, given, what)
    return cls(**given)


def check_kinds(cls: type, values: Mapping[str, Any], what: str) -> None:
    """Raise ValueError unless every value has the type of the class's field of its name; fields of
    other dataclasses are not checked."""
    for name, hint in _hints(cls).items():
        if name in values and not _fits(values[name], hint):
            kinds = " or ".join(dict.fromkeys(_kinds(hint)))
            raise ValueError(f"{name} of {what} must be {kinds}, not {_shown(values[name])}")


@cache
def _hints(cls: type) -> dict[str, Any]:
    found = get_type_hints(cls)
    return {one.name: found[one.name] for one in fields(cls)}


def _is_required(field: Any) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is Literal:
        return value in inner
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(one, inner[0]) for one in value)
    if isinstance(value, bool) and hint in (int, float):
        return False
    if hint is float:
        return isinstance(value, (int, float))
    return isinstance(value, hint) if hint in KINDS else True


def _kinds(hint: Any) -> list[str]:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return [kind for one in inner for kind in _kinds(one)]
    if origin is Literal:
        return [repr(one) for one in inner]
    return [KINDS.get(origin or hint, getattr(hint, "__name__", "something else"))]


def _shown(value: Any) -> str:
    return repr(value)[:80]
