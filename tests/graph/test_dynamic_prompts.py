"""Dynamic prompts: one choice of {a|b}, comments dropped, escapes, and deep nesting at no cost."""

from __future__ import annotations

import random
import time

import pytest
from videoldm.core.graph.dynamic_prompts import resolve_dynamic_prompt


class First:
    """Chooses the first of everything."""

    @staticmethod
    def randrange(count: int) -> int:
        return 0


def resolve(text: str) -> str:
    return resolve_dynamic_prompt(text, First())


@pytest.mark.parametrize(("text", "resolved"), [
    ("a {red|blue} car", "a red car"),
    ("{{a|b}|c} {d{e|f}|g}", "a de"),
    (r"\{a|b\} {c\|d|e} \\", r"{a|b} c|d \\"),
    ("{|a}{}b|c}", "b|c}"),
    ("a {b|c", "a b"),
    ("a /* {b| */{c|d} // e\nf", "a c \nf"),
    ("a /* b", "a /* b"),
    ("a /*/ b */ c", "a  c"),
    ("// only", ""),
    ("", ""),
])  # fmt: skip
def test_what_becomes_of_a_prompt(text, resolved) -> None:
    assert resolve(text) == resolved


def test_every_choice_is_taken_about_as_often() -> None:
    rng = random.Random(0)
    texts = [resolve_dynamic_prompt("{a|{b|c}|d}", rng) for _ in range(600)]
    assert {text: round(texts.count(text) / 100) for text in "abcd"} == {
        "a": 2, "b": 1, "c": 1, "d": 2
    }  # fmt: skip


@pytest.mark.parametrize("text", [
    "{" * 100_000, "{" * 50_000 + "a|b" + "}" * 50_000, "}" * 100_000, "{a|" * 50_000,
    "/*" * 100_000, "/* */" * 80_000, "\\" * 100_001, "//" * 100_000, "{a|b}" * 60_000,
])  # fmt: skip
def test_long_and_deep_prompts_take_no_time(text) -> None:
    begun = time.process_time()
    resolve(text)
    assert time.process_time() - begun < 2
