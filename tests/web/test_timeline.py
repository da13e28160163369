"""The timeline reads and writes the segments that Long-Horizon Segments takes."""

from __future__ import annotations

import json

import pytest
from videoldm.nodes.segments import EXAMPLE
from videoldm.nodes.stages.prompt_travel import Clock
from videoldm.nodes.stages.texts import read_segments

TEXTS = [
    EXAMPLE, "", "[]", "{}", "[1]", "[null]", "[{", '"text"',
    '[{"prompt": "a", "frames": 4}]',
    '[{"prompt": "a", "frames": 4, "overlap": 9}]',
    '[{"prompt": "a", "frames": 4.0, "seed": null}]',
    '[{"prompt": "a", "frames": 4.5}]', '[{"prompt": "a", "frames": "4"}]',
    '[{"prompt": "a", "frames": true}]', '[{"prompt": 1, "frames": 4}]',
    '[{"prompt": "a"}]', '[{"frames": 4}]', '[{"prompt": "a", "frames": 0}]',
    '[{"prompt": "a", "frames": 4, "length": 2}]',
    '[{"prompt": "a", "frames": 4}, {"prompt": "b", "frames": 9, "overlap": 3}]',
    '[{"prompt": "a", "frames": 4}, {"prompt": "b", "frames": 9, "overlap": 4}]',
    '[{"prompt": "a", "frames": 4}, {"prompt": "b", "frames": 3, "overlap": 3}]',
    '[{"prompt": "a", "frames": 4}, {"prompt": "b", "frames": 3, "overlap": -1}]',
    '[{"prompt": "a", "frames": "2s"}, {"prompt": "b", "frames": "50%", "overlap": "0.2s"}]',
    '[{"prompt": "a", "frames": "2"}]', '[{"prompt": "a", "frames": "-2s"}]',
    '"0": "a", "16": "b"', '0 = "a", 16="b",', '{"0": "a", "-1": "b"}', '"0.5": "a", "1.0": "b"',
    '"0": "say \\"hi\\",\nyou", "12%": "back\\\\slash"', '"0:": "a", "8": "b", "9:12": "a"',
    '"16": "b", "1.5s": "a"', '"0:8": "a", "8:24": "b"', '"4:4": "a"', '"0": "a" "1": "b"',
    '"x": "a"',
    '"99": "a"', '"-99": "a"', '"1.5": "a"', '"0": "a", "0:4": "b"', '"0": a', '{}', '0.3 = "a"',
    '"200000": "a"', '"0": "a", "4": "a", "8": "b"', '"7.5%": "a", "0.29": "b"', '"8:": "a"',
]  # fmt: skip


def test_the_timeline_reads_what_the_node_reads(javascript):
    given = [(text, clock) for text in TEXTS for clock in (Clock(), Clock(frames=24, rate=8.0))]
    calls = [(text, vars(clock)) for text, clock in given]
    answers = javascript("timeline.js", f"{json.dumps(calls)}.map((one) => m.readSegments(...one))")
    assert sum("value" in one for one in answers) > 20
    for (text, clock), answer in zip(given, answers, strict=True):
        try:
            expected = [vars(one) for one in read_segments(text, clock)]
        except ValueError:
            assert "problem" in answer, text
            continue
        found = [{"seed": None, **one} for one in answer["value"]]
        assert found == expected, text


EDITS = {
    "add": "m.insertAfter(all, at)",
    "remove": "m.remove(all, at)",
    "split": "m.split(all, at)",
    "split early": "m.split(all, at, 1)",
    "earlier": "m.move(all, at, at - 1)",
    "later": "m.move(all, at, at + 1)",
    "shorten": "m.resize(all, at, 1)",
    "lengthen": "m.resize(all, at, all[at].frames + 5.4)",
    "overlap": "m.change(all, at, 'overlap', 99)",
    "prompt": "m.change(all, at, 'prompt', 'say \\\"hello\\\"')",
    "seed": "m.change(all, at, 'seed', 7)",
}
LISTS = [
    [("a", 32, 0)],
    [("a", 32, 0), ("b", 32, 8)],
    [("a", 5, 0), ("b", 9, 4), ("c", 2, 1), ("d", 1, 0)],
]


@pytest.mark.parametrize("edit", EDITS)
def test_every_edit_leaves_segments_that_the_node_takes(javascript, edit):
    given = [[dict(zip(("prompt", "frames", "overlap"), one, strict=True)) for one in segments]
             for segments in LISTS]  # fmt: skip
    places = [(all, at) for all in given for at in range(len(all))]
    function = f"([all, at]) => m.writeSegments({EDITS[edit]})"
    written = javascript("timeline.js", f"{json.dumps(places)}.map({function})")
    for (all, at), text in zip(places, written, strict=True):
        after = read_segments(text)
        change = {"add": 1, "remove": -1}.get(edit, 0)
        if edit.startswith("split"):
            assert total(after) == total_of(all)
        elif len(all) > 1 or edit != "remove":
            assert len(after) == len(all) + change
        if edit == "prompt":
            assert after[at].prompt == 'say "hello"'
        if edit == "seed":
            assert after[at].seed == 7


def total(segments) -> int:
    return sum(one.frames - one.overlap for one in segments)


def total_of(given) -> int:
    return sum(one["frames"] - one["overlap"] for one in given)
