"""A file that a killed run left half-written is written again under the same name."""

from __future__ import annotations

import json

import pytest
from videoldm.core.media.new_files import NewFile
from videoldm.core.media.partial_files import replacing_partials


def begin(tmp_path, suffix=".mp4"):
    return lambda: NewFile.numbered(tmp_path / "clip", suffix)


def killed(tmp_path, suffix=".mp4"):
    """Leaves what a killed process does: part of a file, and a note that nobody has locked."""
    with (
        pytest.raises(RuntimeError),
        replacing_partials(begin(tmp_path, suffix), *places(tmp_path)) as file,
    ):
        (file.partial / "0.png" if not suffix else file.partial).write_bytes(b"half")
        raise RuntimeError
    return file


def places(tmp_path):
    return tmp_path / "runs" / "writing" / "key", tmp_path


@pytest.mark.parametrize("suffix", [".mp4", ""])
def test_the_next_run_takes_the_name(tmp_path, suffix):
    left = killed(tmp_path, suffix)
    assert left.partial.exists()
    with replacing_partials(begin(tmp_path, suffix), *places(tmp_path)) as file:
        assert file.path == left.path
        assert file.partial.stat().st_size == 0 or not any(file.partial.iterdir())
        file.finish()
    assert [one.name for one in tmp_path.iterdir()] == [left.path.name]


def test_a_run_that_is_under_way_keeps_its_file(tmp_path):
    with replacing_partials(begin(tmp_path), *places(tmp_path)) as first:
        first.partial.write_bytes(b"under way")
        with replacing_partials(begin(tmp_path), *places(tmp_path)) as second:
            assert first.partial.read_bytes() == b"under way"
            assert (first.path.name, second.path.name) == ("clip_00001_.mp4", "clip_00002_.mp4")
            second.finish()
        first.finish()
    assert first.path.read_bytes() == b"under way" and not (tmp_path / "runs").exists()


def test_other_files_are_left_alone_whatever_notes_say(tmp_path):
    notes, root = places(tmp_path / "output")
    notes.mkdir(parents=True)
    kept = [tmp_path / "clip.partial.mp4", root / "clip_00001_.mp4", tmp_path / "x.partial"]
    for path in kept:
        path.write_text("kept")
    named = [*map(str, kept), f"{root}/../clip.partial.mp4", 7]
    (notes / "1.json").write_text(json.dumps(named))
    (notes / "2.json").write_text("{")
    with replacing_partials(begin(root), notes, root) as file:
        file.finish()
    assert all(path.exists() for path in kept) and not notes.exists()


def test_where_no_notes_can_be_written_the_file_is(tmp_path):
    (tmp_path / "runs").write_text("a file")
    with replacing_partials(begin(tmp_path), *places(tmp_path)) as file:
        file.finish()
    assert file.path.exists()
