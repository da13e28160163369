"""Prompts, masks, hints and other packs' layers follow absolute frames in every window, in
ComfyUI's sampler and ours."""

from __future__ import annotations

SAME = 1e-3
"""Relative to the standard deviation of latents."""
WINDOWS = [list(range(start, start + 4)) for start in (0, 2, 4, 6)]


def test_prompts_of_segments_are_those_of_their_frames_in_cores_sampler(inside):
    found = inside["prompts_of_frames"]
    print(found)
    assert found["apart"] < SAME and found["sense"] > 0.05


def test_cores_windows_give_each_frame_its_own_conditions(inside):
    found = dict(inside["core_windows"])
    print(found)
    assert found.pop("sense") > 0.05
    assert len(found) == 5 and max(found.values()) < SAME


def test_our_windows_give_each_frame_its_own_conditions(inside):
    found = dict(inside["own_windows"])
    print(found)
    assert found.pop("sense") > 0.05
    assert len(found) == 4 and max(found.values()) < SAME


def test_other_packs_layers_are_told_the_frames(inside):
    """As in AnimateDiff packs: indices of the frames, and a video length above all of them."""
    found = inside["frames_of_others"]
    assert {tuple(one[0]) for one in found["core's"]} == {tuple(range(10))}
    for name in ("core's, in windows", "ours, in windows"):
        assert sorted({tuple(one[0]) for one in found[name]}) == [tuple(one) for one in WINDOWS]
        assert all(max(one[0]) < one[1] and one[2] % len(one[0]) == 0 for one in found[name])
    assert {one[1] for one in found["core's, in windows"]} == {10}


def test_cores_windows_read_a_planned_one(inside):
    found = dict(inside["reference"])
    print(found)
    for name in ("nothing", "in the other order of nodes", "afterwards", "no windows"):
        assert found.pop(name) < SAME, name
    assert len(found) == 2 and min(found.values()) > 5 * SAME
