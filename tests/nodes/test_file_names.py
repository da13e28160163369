"""File names in workflows: inputs in any of the folders, and prefixes with codes."""

from __future__ import annotations

import os
import re
import time

import pytest
from videoldm.nodes.host.file_names import filled, formatted_date
from videoldm.nodes.host.shared.folders import Folders


@pytest.fixture
def folders(tmp_path):
    for path in ("input/clipspace/mask.png", "input/a.png", "output/b.mp4", "output/temp/c.png"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    return Folders(input=tmp_path / "input", output=tmp_path / "output")


@pytest.mark.parametrize("name, place", [
    ("a.png", "input/a.png"),
    ("a.png [input]", "input/a.png"),
    ("a.png[input]", "input/a.png"),
    ("clipspace/mask.png [input]", "input/clipspace/mask.png"),
    ("clipspace/mask.png", "input/clipspace/mask.png"),
    ("clipspace\\mask.png [input]", "input/clipspace/mask.png"),
    ("b.mp4 [output]", "output/b.mp4"),
    ("temp\\c.png [output]", "output/temp/c.png"),
    ("c.png [temp]", "output/temp/c.png"),
])  # fmt: skip
def test_names_of_inputs_may_name_their_folder(folders, tmp_path, name, place):
    assert folders.input_fault(name) is None
    assert folders.input_path(name) == tmp_path / place


@pytest.mark.parametrize("name, words", [
    ("a.png [output]", "no file 'a.png' in the output folder"),
    ("a.pgn", 'did you mean "a.png"'),
    ("../a.png [temp]", "leads out"),
    ("..\\..\\secret.png", "leads out"),
    ("clipspace/../../x.png [input]", "leads out"),
    ("~nobody-at-all/x.png", "no file"),
    ("a\0.png", "leads out"),
    (7, "expected the name of a file, given 7"),
])  # fmt: skip
def test_what_is_no_input_is_said(folders, name, words):
    assert words in folders.input_fault(name)


def test_a_pipe_among_the_inputs_is_refused(folders, tmp_path):
    os.mkfifo(tmp_path / "input" / "pipe.png")
    assert "neither a file nor a folder" in folders.input_fault("pipe.png")


def test_the_user_may_name_any_file_with_any_ending(folders, tmp_path, monkeypatch):
    (tmp_path / "elsewhere.TS").touch()
    (tmp_path / "a.png").touch()
    monkeypatch.chdir(tmp_path)
    here = str(tmp_path / "elsewhere.TS")
    for typed in ("elsewhere.TS", here, f"{here} [input]"):
        assert folders.input_path(folders.named_by_user(typed)) == tmp_path / "elsewhere.TS"
    for typed in ("a.png", "a.png [input]", "no.png", "b.mp4 [output]"):
        assert folders.named_by_user(typed) == typed  # files of the input folder take precedence


def test_weights_that_the_user_names_may_lie_anywhere(folders, tmp_path):
    (tmp_path / "mine.safetensors").touch()
    name = folders.named_by_user(str(tmp_path / "mine.safetensors"))
    assert name in folders.model_names("loras")
    assert folders.model_path("loras", name) == tmp_path / "mine.safetensors"


def test_model_names_may_have_backslashes(tmp_path):
    (tmp_path / "loras" / "style").mkdir(parents=True)
    (tmp_path / "loras" / "style" / "x.safetensors").touch()
    found = Folders(models=[tmp_path]).model_path("loras", "style\\x.safetensors")
    assert found == tmp_path / "loras" / "style" / "x.safetensors"


# --------------------------------------------------------------------------------------------------
# Prefixes.

MOMENT = time.struct_time((2026, 3, 4, 5, 6, 7, 0, 0, 0))


@pytest.mark.parametrize("pattern, text", [
    ("yyyy-MM-dd", "2026-03-04"),
    ("yy", "26"),
    ("d.M.yy h:m:s", "4.3.26 5:6:7"),
    ("hh-mm-ss", "05-06-07"),
    ("MMdd", "0304"),
    ("mmss", "0607"),
    ("ddMMyyyyhhmmss", "04032026050607"),
    ("dmd", "464"),
    ("yyy y", "yyy y"),
    ("at hh", "at 05"),
])  # fmt: skip
def test_dates_are_written_as_the_frontend_does(pattern, text):
    assert formatted_date(pattern, MOMENT) == text


def test_codes_of_prefixes(monkeypatch):
    monkeypatch.setattr(time, "localtime", lambda: MOMENT)
    codes = "%year%%month%%day%-%hour%%minute%%second% %width%x%height% %date:d/M% %what% 50%"
    assert filled(codes, (64, 32)) == "20260304-050607 64x32 4/3 %what% 50%"


@pytest.mark.parametrize("prefix, words", [
    ("../x", "leads out of the folder"),
    ("..\\x", "leads out of the folder"),
    ("a/../../x", "leads out of the folder"),
    ("/x", "leads out of the folder"),
    ("", "not the name of a file"),
    ("a\0b", r"control character '\\x00'"),
    ("a\nb", r"control character '\\n'"),
    ("what?", r"character \?, which is reserved"),
    ("a|b", r"character \|"),
    ("x" * 216, "216 bytes, at most 215"),
    ("ä" * 108, "216 bytes, at most 215"),
    ("y" * 256 + "/x", "256 bytes, at most 255"),
    ("/".join(["z" * 250] * 18)[:4400], r"path of \d+ bytes, at most 4055"),
    ("b.mp4/x", "which is a file"),
    (["a"], "must be a text"),
])  # fmt: skip
def test_prefixes_that_no_file_can_have_are_refused_before_work(folders, prefix, words):
    fault = folders.prefix_fault(prefix)
    assert re.search(words, fault) and len(fault) < 400, fault
    with pytest.raises(ValueError, match=words):
        folders.new_file(prefix, ".mp4")


@pytest.mark.parametrize("prefix, name", [
    ("x" * 215, "x" * 215),
    ("a\\b", "a/b"),
    ("v1.2 (final), 100%", "v1.2 (final), 100%"),
    ("überblick/動画", "überblick/動画"),
    ("deep/er/and/x", "deep/er/and/x"),
])  # fmt: skip
def test_prefixes_that_are_fine(folders, tmp_path, prefix, name):
    assert folders.prefix_fault(prefix) is None
    file = folders.new_file(prefix, ".mp4")
    assert file.finish() == tmp_path / "output" / f"{name}_00001_.mp4"


def test_a_prefix_that_a_wire_brings_is_checked_when_it_comes(folders):
    assert folders.prefix_fault(None) is None and folders.input_fault(None) is None
