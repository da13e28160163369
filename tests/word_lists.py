"""Generates the lists of words that the embedded models know from the worlds' tables.

python tests/word_lists.py      writes them into help pages, notes of workflows and docs
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from videoldm.core.families.embedded.worlds import driving, shapes

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("LongHorizonSegments", "BoundingBoxes", "LoadImageModel")
"""Nodes whose help pages have the lists."""
WORLDS = {"en": ("Shapes", "Driving"), "fr": ("Formes", "Conduite")}
OR = {"en": " or ", "fr": " ou "}


def any_of(words: Iterable[str], language: str = "en", mark: str = "") -> str:
    """Join words as in "red, green or blue"; with the mark "*", "*red, green* or *blue*"."""
    *first, last = words
    return f"{mark}{', '.join(first)}{mark}{OR[language]}{mark}{last}{mark}"


def paragraphs(language: str = "en") -> tuple[str, str]:
    """The grammar of prompts of the worlds shapes and driving, with literal words in italics."""
    return _shapes(language), _driving(language)


def _shapes(language: str) -> str:
    colors, backgrounds = (any_of(w, language) for w in (shapes.COLORS, shapes.BACKGROUNDS))
    kinds, motions = (any_of(w, language, "*") for w in (shapes.SHAPES, shapes.MOTIONS))
    if language == "fr":
        motions = motions.replace("rotates", "rotates* (sauf un cercle)*")
        return (
            f"**Formes :** *a* {colors} {kinds}, puis {motions} ; au besoin *and* et une deuxième "
            f"forme ; *on a* {backgrounds} *background*."
        )
    motions = motions.replace("rotates", "rotates* (no circle does)*")
    return (
        f"**Shapes:** *a* {colors} {kinds} that {motions}; perhaps *and* a second one; *on a* "
        f"{backgrounds} *background*."
    )


def _driving(language: str) -> str:
    colors = any_of(driving.CAR_COLORS, language)
    lights, egos = (any_of(words, language, "*") for words in
                    (driving.LIGHT_WORDS.values(), driving.EGO_MOTIONS))  # fmt: skip
    lanes = any_of(driving.LANE_NAMES[3], language, "*")[1:-1]
    roads = any_of(driving.LANE_COUNTS.values(), language)
    if language == "fr":
        return (
            f"**Conduite :** *driving on a* {roads} *lane road {lights[1:]} ; jusqu'à trois fois "
            f"*a* {colors} (pas la nuit) *car in the {lanes} lane* (*middle* s'il y en a trois) ; "
            f"*the camera {egos[1:]}."
        )
    return (
        f"**Driving:** *driving on a* {roads} *lane road {lights[1:]}; up to three times *a* "
        f"{colors} (not at night) *car in the {lanes} lane* (*middle* of three); *the camera "
        f"{egos[1:]}."
    )


def with_lists(text: str, language: str = "en") -> str:
    """A text with its paragraphs about the worlds regenerated; missing ones are not added."""
    for name, paragraph in zip(WORLDS[language], paragraphs(language), strict=True):
        text = re.sub(
            rf"^\*\*{name} ?:\*\*.*$", lambda _, new=paragraph: new, text, flags=re.MULTILINE
        )
    return text


def pages() -> list[tuple[Path, str]]:
    """(path, language) of each page of help and docs that has the lists."""
    help_pages = ROOT / "web" / "docs"
    found = [(help_pages / f"VideoLDM_{name}.md", "en") for name in PAGES]
    found += [(help_pages / f"VideoLDM_{name}" / "fr.md", "fr") for name in PAGES]
    return [*found, (ROOT / "docs" / "embedded.md", "en")]


def write() -> None:
    for path, language in pages():
        path.write_text(with_lists(path.read_text("utf-8"), language), "utf-8")
    for path in sorted((ROOT / "workflows").glob("*.json")):
        raw = path.read_text("utf-8")
        for node in json.loads(raw)["nodes"]:
            for old in node.get("widgets_values") or ():
                if isinstance(old, str) and old != with_lists(old):
                    raw = raw.replace(_quoted(old), _quoted(with_lists(old)))
        path.write_text(raw, "utf-8")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


if __name__ == "__main__":
    sys.exit(write())
