"""Geometry of the shipped workflows as the frontend draws them, and which models they load."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videoldm.core.graph.widgets import read_widgets
from videoldm.nodes import node_registry

ROOT = Path(__file__).resolve().parents[1]
TEMPLATES = sorted((ROOT / "workflows").glob("*.json"))
NOTES = ("Note", "MarkdownNote")
TITLE, ROW, WIDGET = 30, 20, 24
"""Heights in pixels of a title (above the node's position), a slot and a widget."""


def read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text("utf-8"))


def twin(file: Path) -> dict[str, Any]:
    """The same workflow in API format."""
    return read(file.parent / "api" / file.name)


def is_embedded(prompt: dict[str, Any]) -> bool:
    """Whether all models that an API prompt loads come with this pack."""
    loaders = [node for node in prompt.values() if "Load" in node["class_type"]]
    values = [value for node in loaders for value in node["inputs"].values()]
    named = [value for value in values if isinstance(value, str) and "." in value]
    return not named


@dataclass(frozen=True)
class Box:
    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: Box) -> bool:
        return (self.left < other.right and other.left < self.right
                and self.top < other.bottom and other.top < self.bottom)  # fmt: skip

    def holds(self, other: Box) -> bool:
        return (self.left <= other.left and other.right <= self.right
                and self.top <= other.top and other.bottom <= self.bottom)  # fmt: skip

    def crosses(self, start: tuple[float, float], end: tuple[float, float]) -> bool:
        """Whether a straight line runs through the box (Liang and Barsky's clipping)."""
        low, high = 0.0, 1.0
        steps = end[0] - start[0], end[1] - start[1]
        sides = (self.left, self.right), (self.top, self.bottom)
        for at, step, (near, far) in zip(start, steps, sides, strict=True):
            if step == 0:
                if not near < at < far:
                    return False
                continue
            first, last = sorted(((near - at) / step, (far - at) / step))
            low, high = max(low, first), min(high, last)
        return low < high


def box_of(node: dict[str, Any]) -> Box:
    (x, y), (width, height) = node["pos"], node["size"]
    return Box(x, y - TITLE, x + width, y + height)


def group_box(group: dict[str, Any]) -> Box:
    x, y, width, height = group["bounding"]
    return Box(x, y, x + width, y + height)


def start_of(node: dict[str, Any], slot: int) -> tuple[float, float]:
    return node["pos"][0] + node["size"][0], node["pos"][1] + ROW * (slot + 0.7)


def end_of(node: dict[str, Any], link: int) -> tuple[float, float]:
    """Where a link ends in the classic rendering: at a socket, or at a widget below all sockets."""
    sockets = [one for one in node["inputs"] if "widget" not in one]
    for row, one in enumerate(sockets):
        if one["link"] == link:
            return node["pos"][0], node["pos"][1] + ROW * (row + 0.7)
    (wired,) = [one["name"] for one in node["inputs"] if one["link"] == link]
    rows = max(len(sockets), len(node["outputs"]))
    place = ROW * rows + WIDGET * (_widgets(node).index(wired) + 0.5)
    return node["pos"][0], node["pos"][1] + place


def _widgets(node: dict[str, Any]) -> list[str]:
    spec = node_registry().get(node["type"])
    if spec is None:  # A subgraph's
        return [one["name"] for one in node["inputs"] if "widget" in one]
    return list(read_widgets(node, spec))
