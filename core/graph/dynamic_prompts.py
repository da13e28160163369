"""Dynamic prompts such as {red|blue}, resolved as the frontend does when it queues a workflow."""

from __future__ import annotations

import random
import re

_MARK = re.compile(r"\\.|[{}|]", re.DOTALL)
_ESCAPED = re.compile(r"\\([{}|])")


def resolve_dynamic_prompt(text: str, rng: random.Random) -> str:
    """Pick one option of each {a|b}, nested ones too; drop comments; unescape \\{, \\}, \\|.

    An unclosed brace extends to the end of the text; an unopened one is plain text.
    """
    text = _without_comments(text)
    marks = [mark.start() for mark in _MARK.finditer(text) if len(mark[0]) == 1]
    borders = _borders(text, marks)
    marks.append(len(text))
    kept: list[str] = []
    position = index = 0
    inside: list[tuple[int, int]] = []  # marks that end the picked option and its group
    while index < len(marks):
        begin = marks[index]
        if inside and index == inside[-1][0]:
            kept.append(text[position:begin])
            index = inside.pop()[1]
            position = marks[index] + 1
        elif index in borders:
            kept.append(text[position:begin])
            group = borders[index]
            chosen = rng.randrange(len(group) - 1)
            inside.append((group[chosen + 1], group[-1]))
            index = group[chosen]
            position = marks[index] + 1
        index += 1
    return _ESCAPED.sub(r"\1", "".join([*kept, text[position:]]))


def _borders(text: str, marks: list[int]) -> dict[int, list[int]]:
    """Return, for each opening mark, the marks of its group: the brace, its bars, its end."""
    borders: dict[int, list[int]] = {}
    waiting: list[int] = []
    for index, position in enumerate(marks):
        if text[position] == "{":
            waiting.append(index)
            borders[index] = [index]
        elif waiting:
            borders[waiting[-1]].append(index)
            if text[position] == "}":
                waiting.pop()
    for index in waiting:
        borders[index].append(len(marks))
    return borders


def _without_comments(text: str) -> str:
    """Drop /* ... */ and // comments; an unclosed /* is plain text."""
    kept: list[str] = []
    position = 0
    last_end = text.rfind("*/")
    for mark in re.finditer(r"/[*/]", text):
        begin = mark.start()
        if begin < position or (mark[0] == "/*" and last_end < mark.end()):
            continue
        kept.append(text[position:begin])
        closing = "*/" if mark[0] == "/*" else "\n"
        end = text.find(closing, mark.end())
        position = len(text) if end < 0 else end + (2 if closing == "*/" else 0)
    return "".join([*kept, text[position:]])
