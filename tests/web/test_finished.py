"""The timeline marks as outdated exactly the windows that a run recomputes."""

from __future__ import annotations

import json

import pytest

SEGMENTS = [{"prompt": name, "frames": 9, "overlap": 0} for name in "abcd"]
CHAIN = [[3 * k, 3 * k + 3, 1, "segment", True] for k in range(12)]
"""36 frames in 12 windows of 4 that overlap by 1."""


def found(windows, continued=None, frames=36):
    return {"frames": frames, "continued": continued, "windows": windows}


def changed(index, **more):
    return [{**one, **(more if k == index else {})} for k, one in enumerate(SEGMENTS)]


@pytest.fixture
def again(javascript):
    """again(found, now, was) returns the indices of the windows that would be recomputed."""

    def call(told, now, was=SEGMENTS):
        states = (one if isinstance(one, dict) else {"segments": one} for one in (was, now))
        given = ", ".join(map(json.dumps, (told, *states)))
        flags = javascript("finished.js", f"m.outdatedWindows({given})")
        return [k for k, one in enumerate(flags) if one]

    return call


def test_nothing_changed_and_nothing_is_made_again(again):
    assert again(found(CHAIN, "segment"), SEGMENTS) == []


def test_windows_that_continue_a_changed_one_follow_it(again):
    """As in tests/nodes/test_runs.py: 7 of 12 follow from the third segment, frames 18 to 26."""
    now = changed(2, prompt="z")
    assert again(found(CHAIN, "segment"), now) == list(range(5, 12))
    assert again(found(CHAIN), now) == [5, 6, 7, 8]


def test_a_seed_counts_until_the_next_segment_with_one(again):
    was = changed(3, seed=5)
    now = [*was[:1], {**was[1], "seed": 7}, *was[2:]]
    assert again(found(CHAIN), now, was) == list(range(2, 9))


def test_one_video_in_windows_is_made_again_as_a_whole(again):
    assert again(found([[0, 35, 1, "", True]]), changed(0, prompt="z")) == [0]


def test_frames_between_key_frames_follow_those_that_are_made_again(again):
    keys = [[16 * k, 16 * k + 48, 16, "keys", True] for k in (0, 3)]
    between = [[16 * k, 16 * k + 16, 4, "interpolation 1", True] for k in range(6)]
    last = [{"prompt": "a", "frames": 60, "overlap": 0},
            {"prompt": "b", "frames": 37, "overlap": 0}]  # fmt: skip
    now = [last[0], {**last[1], "prompt": "c"}]
    windows = [keys[0], *between[:3], keys[1], *between[3:]]
    assert again(found(windows, "keys", 97), now, last) == [4, 5, 6, 7]
    two_given = [keys[0], [32, 80, 16, "keys", True], *between[:5]]
    assert again(found(two_given, "keys", 81), now, last) == [1, 5, 6]


NODES = {
    "1": {"class_type": "Load", "inputs": {"model": "a"}},
    "2": {"class_type": "VideoLDM_LongHorizonSegments",
          "inputs": {"clip": ["1", 1], "segments": "[]", "frames": 0, "frame_rate": 8.0}},
    "3": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "blurred"}},
    "7": {"class_type": "VideoLDM_VideoSampler",
          "inputs": {"model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0], "seed": 7,
                     "frames": 36, "steps": 4}},
    "9": {"class_type": "Save", "inputs": {"latent": ["7", 0], "prefix": "clip"}},
}  # fmt: skip


@pytest.fixture
def after(javascript):
    """after(node, name=value, ...) returns the indices of the windows that would be recomputed if
    these inputs of the node changed; continued: the level whose chunks continue each other."""

    def call(node, *, continued="segment", windows=CHAIN, of=SEGMENTS, **changes):
        now = {**NODES, node: {**NODES[node], "inputs": {**NODES[node]["inputs"], **changes}}}
        given = json.dumps([found(windows, continued), NODES, now, of])
        flags = javascript("finished.js", f"""(([found, was, now, segments]) => m.outdatedWindows(
            found, {{ ...m.stateOf(was, "7"), segments }},
            {{ ...m.stateOf(now, "7"), segments }}))({given})""")  # fmt: skip
        return [k for k, one in enumerate(flags) if one]

    return call


@pytest.mark.parametrize(
    ("node", "changes"),
    [("7", {"steps": 5}), ("1", {"model": "b"}), ("3", {"text": "noisy"}), ("7", {"seed": 8}),
     ("7", {"model": ["3", 0]}), ("7", {"strategy": "rolling"})],
)  # fmt: skip
def test_what_all_windows_are_made_from_makes_all_again(after, node, changes):
    assert after(node, **changes) == list(range(12))


@pytest.mark.parametrize(
    ("node", "changes"),
    [("9", {"prefix": "other"}), ("2", {"segments": "[1]"}), ("2", {"frame_rate": 12.0}),
     ("7", {"steps": 4.0}), ("7", {"frames": 99}), ("7", {"$$comfy_animation_preview": None})],
)  # fmt: skip
def test_what_no_window_is_made_from_makes_none_again(after, node, changes):
    assert after(node, **changes) == []


def test_a_seed_of_the_sampler_counts_where_no_segment_has_one(after):
    segments = [*SEGMENTS[:2], {**SEGMENTS[2], "seed": 5}, SEGMENTS[3]]
    assert after("7", seed=8, continued=None, of=segments) == [0, 1, 2, 3, 4, 5]


def test_a_video_that_is_made_at_once_is_made_again_when_it_is_longer(after):
    whole = [[0, 35, 1, "", True]]
    assert after("7", frames=40, continued=None, windows=whole) == [0]
    assert after("7", frames=["2", 1], continued=None, windows=whole) == []


def test_the_summary_counts(javascript):
    told = json.dumps(found(CHAIN, "segment"))
    flags = json.dumps([True] * 3 + [False] * 9)
    assert javascript("finished.js", f"m.summary({told}, {flags})") == [
        "madeAgain", {"windows": 12, "there": 12, "again": 3},
    ]  # fmt: skip
