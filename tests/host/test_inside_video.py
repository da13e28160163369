"""Our VIDEO supports the calls of later versions of ComfyUI; see inside_video.py."""

from __future__ import annotations


def test_crops_and_new_sizes_are_made_when_frames_are_asked_for(inside):
    found = inside["edits"]
    assert found["asked"] == 0
    assert found["sizes"] == [[22, 18], [8, 14], [7, 6], [16, 24]]
    assert found["cropped"] and found["resized"]


def test_a_crop_that_is_empty_or_covers_everything_changes_nothing(inside):
    assert inside["edits"]["itself"] == [True] * 4


def test_no_edit_is_missing_from_what_is_written(inside):
    assert inside["edits"]["pending"] == [False] * 3


def test_settings_of_later_versions_and_unknown_ones_are_accepted(inside):
    found = inside["files"]
    assert len(found) == 6
    assert {name: one for name, one in found.items() if one != [16, 8, 5, 1]} == {}


def test_edits_of_others_that_their_file_lacks_are_seen(inside):
    assert inside["edited_by_others"] == [[22, 18, 22], [16, 8, 16]]


def test_trims_are_made_when_frames_are_asked_for(inside):
    found = inside["trims"]
    assert found["asked"] == 0 and found["frames"] == [2, 3] and found["all"] == 5
    assert found["same"] == [True, True] and found["none"] == [True, True]
    assert found["duration"] == 0.25


def test_trimmed_files_of_core_have_the_same_frames_here(inside):
    for core, ours, same in inside["trimmed_by_core"]:
        assert core == ours and same
    assert len(inside["trimmed_by_core"]) == 10


def test_others_stream_from_one_file_and_codecs_are_those_asked_for(inside):
    found = inside["sources"]
    assert found["one"] and found["frames"] == 5
    assert ["av1" in one for one in found["codecs"]] == [True, True, False]


def test_transparency_is_where_comfyui_has_it(inside):
    assert inside["transparency"] == [[3, 8, 8, 3], [3, 8, 8, 1], True]
