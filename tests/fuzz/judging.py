"""Finds the promises of the command that a result breaks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from .running import Result

CODES = (0, 1, 2, 3)
LONGEST = 600
"""The most characters of a message, in which long names, values and choices are shortened."""

# Words that only tell a programmer something.
MUMBLING = re.compile(
    r"NoneType|object (is not|has no|of type)|has no len|has no attribute|not subscriptable|"
    r"not iterable|"
    r"\[Errno|index out of range|unhashable|positional argument|keyword argument|codec can't|"
    r"<class '|<[\w.]+ object|object at 0x|could not convert string|Traceback|"
    r"cannot unpack|not enough values|too many values|unsupported operand|not supported between|"
    r"KeyError|ValueError|TypeError|RuntimeError|AttributeError|invalid literal"
)
WARNING = "videoldm: warning: "
PROGRAM = re.compile(r"videoldm( \w+)?: ")
QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")
UNEXPECTED = re.compile(r"(^|: )unexpected (\w*(Error|Exception)|error)\b")
EMPTY = re.compile(r":\s*$| \(\)$|: ,")
SENTENCES = re.compile(r"[a-z0-9)]\. +[A-Z]")


@dataclass(frozen=True)
class Failure:
    """One broken promise. The signature, without names and numbers, groups similar ones."""

    kind: str
    detail: str

    @property
    def signature(self) -> str:
        detail = QUOTED.sub("'…'", self.detail)
        detail = re.sub(r"(/[^\s:,()]+)+", "PATH", detail)
        return f"{self.kind}: {re.sub(r'[-+]?[0-9][0-9.e+]*', 'N', detail)[:110]}"


def failures(result: Result) -> list[Failure]:
    """Every broken promise, the worst first."""
    found = [*_stopped(result), *_watched(result)]
    for command, code, (out, err) in zip(
        result.commands, result.codes, result.outputs, strict=False
    ):
        found += _told(command, code, out, err)
    return found


def _stopped(result: Result) -> Iterator[Failure]:
    kinds = {"time": "hang", "memory": "memory"}
    if result.stopped:
        kind = kinds.get(result.stopped, f"death by {result.stopped}")
        yield Failure(kind, " < ".join(_frames(result.stack)) or "where is not known")


def _frames(stack: str) -> list[str]:
    """The innermost function, and the two innermost ones of this project."""
    lines = re.findall(r'File "([^"]*)", line \d+ in (\S+)', stack)
    names = [f"{path.rpartition('/')[2]} {function}" for path, function in lines]
    own = [name for (path, _), name in zip(lines, names, strict=True) if "/core/" in path
           or "/nodes/" in path]  # fmt: skip
    return list(dict.fromkeys([*names[:1], *own[:2]]))


def _watched(result: Result) -> Iterator[Failure]:
    for entry in dict.fromkeys(result.watched):
        kind, colon, detail = entry.partition(": ")
        yield Failure(kind, detail) if colon else Failure("code executed", entry)
    if (result.folder / "canary").exists():
        yield Failure("code executed", "a pickle of the input was obeyed")


def _told(command: list[str], code: int, out: str, err: str) -> Iterator[Failure]:
    if code not in CODES:
        yield Failure("traceback" if code == -1 else "exit code", err.strip()[-300:] or str(code))
        return
    lines = err.splitlines()
    warned = [line for line in lines if line.startswith(WARNING)]
    errors = [line for line in lines if line not in warned and _is_error(line, command)]
    if code and not errors and "--json" not in command:
        yield Failure("silent", f"exit code {code} and nothing was said")
    if "Traceback (most recent" in err:
        yield Failure("traceback", err.strip()[-300:])
    if command[:1] == ["run"] and len(errors) > 1:
        yield Failure("several lines", " | ".join(errors))
    for line in (*errors, *warned):
        for file in command[1:]:  # `validate` prefixes messages with the path as given.
            line = line.removeprefix(f"{file}: ")
        yield from _message(PROGRAM.sub("", line).removeprefix("warning: "))
    if "--json" in command and not {"-h", "--help"} & set(command):
        yield from _json_lines(out)


def _is_error(line: str, command: list[str]) -> bool:
    validated = command[:1] == ["validate"]
    return bool(PROGRAM.match(line)) or (validated and ": " in line)


def _message(text: str) -> Iterator[Failure]:
    plain = QUOTED.sub("''", text)
    if UNEXPECTED.search(plain):
        yield Failure("unexpected", text)
    elif not text.strip() or EMPTY.search(plain):
        yield Failure("empty message", text)
    elif SENTENCES.search(plain):
        yield Failure("several sentences", text)
    elif MUMBLING.search(plain):
        yield Failure("mumbling", text)
    if len(text) > LONGEST:
        yield Failure("long message", text)
    if re.search(r"[\x00-\x08\x0b-\x1f\x7f]", text):
        yield Failure("control characters", repr(text))


def _json_lines(out: str) -> Iterator[Failure]:
    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    for text in [out] if _is_one_object(out) else out.splitlines():
        try:
            json.loads(text, parse_constant=refuse)
        except ValueError as error:
            yield Failure("not JSON", f"{error} in {text[:80]}")


def _is_one_object(out: str) -> bool:
    """Listings are printed as one value over many lines, events as one per line."""
    return out.startswith(("{\n", "[\n"))
