"""Elements of SVG plots."""

from __future__ import annotations

from collections.abc import Iterable


def document(width: int, height: int, parts: Iterable[str]) -> str:
    """An SVG file of `width` x `height` pixels with the elements `parts` on white."""
    start = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    )
    return "\n".join([*start, *parts, "</svg>"]) + "\n"


def text(x: float, y: float, words: str, attributes: str) -> str:
    """A text element; its baseline starts at (x, y) unless the attributes set another anchor."""
    return f'<text x="{x:.1f}" y="{y:.1f}" {attributes}>{words}</text>'


def level(left: float, right: float, y: float) -> str:
    """A thin horizontal grid line."""
    return f'<line x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dddddd"/>'
