"""What the SVG pictures of curves have in common."""

from __future__ import annotations

from collections.abc import Iterable


def document(width: int, height: int, parts: Iterable[str]) -> str:
    """An SVG file of that size in pixels, with its elements on white."""
    start = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    )
    return "\n".join([*start, *parts, "</svg>"]) + "\n"


def text(x: float, y: float, words: str, attributes: str) -> str:
    """Words whose base line begins at (x, y), unless the attributes anchor them elsewhere."""
    return f'<text x="{x:.1f}" y="{y:.1f}" {attributes}>{words}</text>'


def level(left: float, right: float, y: float) -> str:
    """A thin line across, as those of a grid."""
    return f'<line x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dddddd"/>'
