"""Limits on the length and nesting of a prompt, which bound the time and memory to parse it."""

from __future__ import annotations

import re

LONGEST = 20_000  # characters, some 5,000 tokens
DEEPEST = 100  # nested parentheses; each is a weight of 1.1, so this is a weight of 13,780
_PARENTHESIS = re.compile(r"\\[()]|[()]")


def prompt_fault(prompt: str) -> str | None:
    """Return which limit a prompt exceeds, as a phrase to follow "is"; None if it exceeds none."""
    if len(prompt) > LONGEST:
        return f"{len(prompt):,} characters long, at most {LONGEST:,} are read"
    depth = deepest = 0
    for mark in _PARENTHESIS.finditer(prompt):
        step = {"(": 1, ")": -1}.get(mark[0], 0)
        depth = max(0, depth + step)
        deepest = max(deepest, depth)
    if deepest > DEEPEST:
        return f"nested {deepest} parentheses deep, at most {DEEPEST} are read"
    return None


def require_readable(prompt: str) -> None:
    """Raise ValueError for a prompt beyond the limits."""
    fault = prompt_fault(prompt)
    if fault:
        raise ValueError(f"the prompt is {fault}")
