"""Hostile values, and mutations of JSON and of bytes."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

# Either small or beyond every limit of a node: values in between are slow for good reasons.
NUMBERS = (
    0, 1, -1, 2, 3, 0.5, -0.0, 1e-9, 7.999, 2**31, -(2**31), 2**53 + 1, 2**63, 2**64, -(2**64), 1e9,
    1e22, 1e308, -1e308, math.nan, math.inf, -math.inf, 10**400, -(10**400),
)  # fmt: skip
TEXTS = (
    "", " ", "\n", "0", "-1", "4", "4.0", "1e5", "1e999", "NaN", "inf", "true", "None", "null",
    "[]", "{}", "a\x00b", "\x1b[31mred\x1b[0m", "\r\n\t\x07", "\ud800", "\U0001f600 \u202eabc",
    "é" * 300, "%", "%s%n%d", "%date:yyyy%", "%width%", "%seed%", "{", "{a|b}", "((((", "a" * 3000,
    "/", ".", "..", "../../outside", "/elsewhere", "~/x", "C:\\x\\y", "a\\b", "con",
    "x" * 256 + ".png", "a/../../b", "-10", "-20", "-1:0", "embedding:../../x",
    "rendered: shapes", "embedded",
)  # fmt: skip
WEIRD = (None, True, False, [], {}, [[]], [None], {"": None}, ["1", 0], ["1", -1], ["1", 1e9],
         [1, 0], ["1", "0"], ["1", 0, 0], {"__value__": [1, 2]}, {"a": {"b": []}})  # fmt: skip

DEEP = "@deep:{}:{}@"
"""A placeholder for a value nested deeper than json can write; see `to_text`."""

Path = tuple[Any, ...]


def value(rng: Random) -> Any:
    """Any hostile value."""
    roll = rng.random()
    if roll < 0.35:
        return rng.choice(NUMBERS)
    if roll < 0.7:
        return text(rng)
    if roll < 0.97:
        return copy.deepcopy(rng.choice(WEIRD))
    return DEEP.format(rng.choice("[{"), rng.choice((50, 600, 5000, 100_000)))


def argument(rng: Random) -> str:
    """A text that a shell can pass: without zero bytes, and with invalid UTF-8 instead of lone
    surrogates."""
    return text(rng).replace("\x00", "").replace("\ud800", "\udcff")


def text(rng: Random) -> str:
    if rng.random() < 0.8:
        return rng.choice(TEXTS)
    length = rng.choice((3, 20, 200))
    return "".join(chr(rng.choice((rng.randrange(32), rng.randrange(32, 127),
                                   rng.randrange(160, 0x2FF)))) for _ in range(length))  # fmt: skip


# --------------------------------------------------------------------------------------------------
# JSON.


def mutated(data: Any, rng: Random, changes: int) -> Any:
    """A copy with this number of changes at random places."""
    data = {"root": copy.deepcopy(data)}
    for _ in range(changes):
        places = list(_places(data["root"], ("root",)))
        rng.choice(MUTATIONS)(data, rng.choice(places), places, rng)
    return data["root"]


def _places(data: Any, path: Path) -> Iterator[Path]:
    yield path
    if isinstance(data, (dict, list)):
        for key, inner in list(data.items() if isinstance(data, dict) else enumerate(data)):
            yield from _places(inner, (*path, key))


def _holder(data: Any, path: Path) -> Any:
    for key in path[:-1]:
        data = data[key]
    return data


def _get(data: Any, path: Path) -> Any:
    return _holder(data, path)[path[-1]]


def _replace(data: Any, at: Path, places: list[Path], rng: Random) -> None:
    _holder(data, at)[at[-1]] = value(rng)


def _delete(data: Any, at: Path, places: list[Path], rng: Random) -> None:
    if len(at) > 1:
        del _holder(data, at)[at[-1]]


def _exchange(data: Any, at: Path, places: list[Path], rng: Random) -> None:
    """A value from elsewhere in the same file: a wrong link, id or widget value."""
    _holder(data, at)[at[-1]] = copy.deepcopy(_get(data, rng.choice(places)))


def _nudge(data: Any, at: Path, places: list[Path], rng: Random) -> None:
    """A number that is off by a little, as in wrong links and ids."""
    numbers = [p for p in places if isinstance(_get(data, p), (int, float))]
    if numbers:
        at = rng.choice(numbers)
        _holder(data, at)[at[-1]] = _get(data, at) + rng.choice((-2, -1, 1, 2, 0.5))


def _retype(data: Any, at: Path, places: list[Path], rng: Random) -> None:
    old = _get(data, at)
    new = rng.choice((lambda: [old], lambda: {"value": old}, lambda: str(old)[:5000]))
    _holder(data, at)[at[-1]] = new()


def _rename(data: Any, at: Path, places: list[Path], rng: Random) -> None:
    holder = _holder(data, at)
    if isinstance(holder, dict) and len(at) > 1:
        holder[text(rng)] = holder.pop(at[-1])


def _repeat(data: Any, at: Path, places: list[Path], rng: Random) -> None:
    old = _get(data, at)
    if isinstance(old, list) and old and len(old) < 100:
        _holder(data, at)[at[-1]] = (old * rng.choice((2, 3, 500)))[:2000]
    elif isinstance(old, str):
        _holder(data, at)[at[-1]] = old[:200] * rng.choice((2, 500))


MUTATIONS: tuple[Callable[..., None], ...] = (
    _replace, _replace, _replace, _delete, _delete, _exchange, _exchange, _nudge, _retype, _rename,
    _repeat,
)  # fmt: skip


def to_text(data: Any) -> str:
    """JSON, with NaN and infinity as Python writes them, and with `DEEP` placeholders expanded."""
    written = json.dumps(data)
    while '"@deep:' in written:
        before, _, rest = written.partition('"@deep:')
        told, _, after = rest.partition('@"')
        bracket, _, depth = told.partition(":")
        written = before + _deep(bracket, int(depth)) + after
    return written.replace("@deep:", "deep:")


def _deep(bracket: str, depth: int) -> str:
    open_, close = ("[", "]") if bracket == "[" else ('{"a":', "}")
    return open_ * depth + "1" + close * depth


# --------------------------------------------------------------------------------------------------
# Bytes.


def broken(content: bytes, rng: Random) -> bytes:
    """The bytes truncated, with flipped bits, overwritten, extended or cut in the middle."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5))):
        size = len(data)
        if not size:
            break
        at = rng.randrange(min(size, rng.choice((64, 1024, size))))
        how = rng.randrange(6)
        if how == 0:
            del data[at:]
        elif how == 1:
            for _ in range(rng.choice((1, 4, 40))):
                data[rng.randrange(size)] ^= 1 << rng.randrange(8)
        elif how == 2:
            data[at : at + 4] = rng.choice((b"\xff" * 4, b"\x00" * 4, b"\x7f\xff\xff\xff"))
        elif how == 3:
            data[at:at] = rng.randbytes(rng.choice((1, 4, 300)))
        elif how == 4:
            del data[at : at + rng.choice((1, 8, 500))]
        else:
            data[at : at + 64] = rng.randbytes(64)
    return bytes(data)
