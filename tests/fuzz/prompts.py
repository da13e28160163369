"""Text inputs: prompts with weights, choices and embeddings; segments, boxes and sites."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

from . import flows, values

PIECES = (
    "a red circle", "(blue:1.3)", "((x))", "[y]", "(z:", ":1.5)", "(", ")", "\\(", "\\)", "{", "}",
    "{a|b}", "{a|{b|c}}", "|", "\\{", "//", "/*", "*/", "(a:1e999)", "(a:nan)", "(a:-1e5)",
    "(a:1.0.0)", "(a:0x10)", "(:2)", "embedding:none", "(embedding:../../etc:1.2)", "embedding:",
    "BREAK", "AND", "<lora:x:1>", "\n", "\x00", "é", "\ud800", "\U0001f600",
)  # fmt: skip
SEGMENT = {"prompt": "a red circle", "frames": 3, "overlap": 1, "seed": 4}
BOX = {"label": "red car", "x0": 0.4, "y0": 0.5, "x1": 0.55, "y1": 0.65}
SITES = ("down.0=0.5, mid=0", "down.0", "=", "down.9=1", "mid=nan", "mid=1e999", "mid=-1", "a,b,c",
         ",,,", "down.0=0.5;mid=1", "*=0")  # fmt: skip


def make(rng: Random, folder: Path) -> list[list[str]]:
    """One text input, in API form or in UI form, where {a|b} is a choice."""
    flow = rng.choice((_prompt, _prompt, _segments, _boxes, _sites))(rng)
    if rng.random() < 0.5:
        flow = flows.ui_of(flow)
    flows.written(flow, folder / "workflow.json")
    return [flows.run_command(rng, "workflow.json")]


def prompt(rng: Random) -> str:
    roll = rng.random()
    if roll < 0.15:
        return rng.choice(PIECES) * rng.choice((100, 10_000, 100_000))
    if roll < 0.3:
        return values.text(rng)
    pieces = [rng.choice(PIECES) for _ in range(rng.choice((2, 5, 60)))]
    return rng.choice(("", " ", ", ")).join(pieces)


def _prompt(rng: Random) -> flows.Flow:
    return rng.choice((flows.picture, flows.clip_from_text))(prompt(rng))


def _segments(rng: Random) -> flows.Flow:
    return flows.long_clip(_listed(rng, SEGMENT))


def _boxes(rng: Random) -> flows.Flow:
    return flows.boxes(prompt(rng)[:500], _listed(rng, BOX))


def _sites(rng: Random) -> flows.Flow:
    flow = flows.clip_from_text()
    sites = rng.choice((rng.choice(SITES), values.text(rng)))
    flow["3"]["inputs"]["sites"] = sites
    return flow


def _listed(rng: Random, item: dict[str, Any]) -> str:
    """A JSON list that is nearly valid, or any other text."""
    if rng.random() < 0.15:
        return values.text(rng)
    data = [dict(item) for _ in range(rng.choice((1, 2, 3)))]
    text = values.to_text(values.mutated(data, rng, rng.choice((0, 1, 2))))
    return values.broken(text.encode(), rng).decode("utf-8", "replace") \
        if rng.random() < 0.1 else text  # fmt: skip
