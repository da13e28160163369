"""Texts with numbers in them, and readable durations and sizes."""

from __future__ import annotations

import json
import re

import help_pages  # noqa: E402


def test_one_frame_is_one_frame_in_every_language(javascript):
    texts = [text for language in help_pages.LANGUAGES
             for text in help_pages.read_locale(language, "main")["videoldm"].values()]  # fmt: skip
    names = sorted(set(re.findall(r"\[(\w+)\]", " ".join(texts))))
    said = {}
    for number in (1, 2):
        values = json.dumps(dict.fromkeys(names, number))
        said[number] = javascript(
            "wording.js", f"{json.dumps(texts)}.map((one) => m.filled(one, {values}))"
        )
    wrong = (
        r"(?<![\d.])1 "
        r"(frames|segments|windows|views|steps|evaluations|images|fenêtres|vues|étapes|pa|finies)\b"
    )
    assert [one for one in said[1] if re.search(wrong, one)] == []
    assert "1 segment · 1 frame" in said[1] and "2 segments · 2 frames" in said[2]
    assert not any(re.search(r"\[[a-z]\w*\]", one) for one in said[1] + said[2])
    answers = javascript(
        "wording.js",
        """[
        m.filled("[frames] frames", { frames: "1" }), m.filled("[a] is [b]", { a: 0 }),
        m.filled("Segment [segment] needs 1", { segment: 1 })]""",
    )
    assert answers == ["1 frame", "0 is [b]", "Segment 1 needs 1"]


def test_figures_read_as_people_say_them(javascript):
    times = "[0.3, 9.96, 59, 61, 200, 3600, 7530].map(m.duration)"
    assert javascript("progress.js", times) == [
        "0.3 s", "10 s", "59 s", "1 min 1 s", "3 min 20 s", "1 h", "2 h 6 min",
    ]  # fmt: skip
    assert javascript("progress.js", "[2e5, 4.7e7, 3.44e9].map(m.bytes)") == [
        "1 MB", "47 MB", "3.4 GB",
    ]  # fmt: skip
