"""Names of files being written: nobody else's file is overwritten, whatever runs concurrently."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from threading import Barrier

import pytest
import torch
from videoldm.core.media.files import encoding_of, open_video, read_frames, write_video
from videoldm.core.media.new_files import NewFile, move_new

FORMATS = ("mp4", "webm", "gif", "png")
FRAMES = 6


def frames(grey: float) -> torch.Tensor:
    return torch.full((FRAMES, 3, 16, 16), grey)


def begun(folder, format: str, name: str = "a") -> NewFile:
    suffix = "" if format == "png" else f".{format}"
    return NewFile.numbered(
        folder / name, suffix, partial_suffix=encoding_of(format).partial_suffix
    )


def written(folder, format: str, grey: float, meet: Barrier):
    """Writes a video of one grey, in lockstep with the other thread."""
    meet.wait()
    file = begun(folder, format)

    def chunks():
        for frame in frames(grey).split(1):
            meet.wait()
            yield frame

    return write_video(file, chunks(), frame_rate=8, format=format).path


@pytest.mark.parametrize("pair", range(8))
def test_two_runs_into_one_folder_both_save_their_own_video(tmp_path, pair):
    formats = list(product(FORMATS, FORMATS))[2 * pair + pair % 2]
    meet = Barrier(2, timeout=60)
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(written, tmp_path, one, grey, meet)
                for one, grey in zip(formats, (-0.5, 0.5), strict=True)]  # fmt: skip
        paths = [run.result() for run in runs]
    assert sorted(path.name[:8] for path in paths) == ["a_00001_", "a_00002_"]
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    for path, grey in zip(paths, (-0.5, 0.5), strict=True):
        read = torch.cat(list(read_frames(path)))
        assert len(read) == FRAMES and (read - grey).abs().max() < 0.05


def test_many_names_are_given_once_each(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        files = list(pool.map(lambda n: begun(tmp_path, FORMATS[n % 4]), range(40)))
    assert len({file.path.name[:8] for file in files}) == 40
    assert len(list(tmp_path.iterdir())) == 40


@pytest.mark.parametrize("format", FORMATS)
def test_two_writers_of_one_path_do_not_share_a_partial_file(tmp_path, format):
    path = tmp_path / ("a" if format == "png" else f"a.{format}")
    meet = Barrier(2, timeout=60)

    def write(grey):
        def chunks():
            for frame in frames(grey).split(1):
                meet.wait()
                yield frame

        try:
            return write_video(path, chunks(), frame_rate=8, format=format).path
        except OSError as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(write, (-0.5, 0.5))
    fault, good = (first, second) if isinstance(first, OSError) else (second, first)
    assert good == path and f"{FRAMES} of {FRAMES} frames kept in" in str(fault)
    assert open_video(path).frames == FRAMES
    (other,) = [one for one in tmp_path.iterdir() if one != path]
    assert str(other) in str(fault) and open_video(other).frames == FRAMES


@pytest.mark.parametrize("format", FORMATS)
def test_a_foreign_file_that_appears_meanwhile_is_left_alone(tmp_path, format):
    file = begun(tmp_path, format)

    def chunks():
        yield frames(0.0)
        file.path.write_text("somebody else's")

    path = write_video(file, chunks(), frame_rate=8, format=format).path
    assert (tmp_path / f"a_00001_{path.suffix}").read_text() == "somebody else's"
    assert path.name == f"a_00002_{path.suffix}" and open_video(path).frames == FRAMES
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("suffix", [".mp4", ""])
def test_without_links_nothing_is_replaced_either(tmp_path, monkeypatch, suffix):
    def refused(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    file = NewFile.numbered(tmp_path / "a", suffix)
    (file.partial / "0.png" if not suffix else file.partial).write_text("mine")
    file.path.write_text("taken")
    with pytest.raises(FileExistsError):
        move_new(file.partial, file.path)
    assert file.finish().name == f"a_00002_{suffix}"
    assert (tmp_path / f"a_00001_{suffix}").read_text() == "taken"
    assert (file.path / "0.png" if not suffix else file.path).read_text() == "mine"


def test_names_with_dots_are_counted(tmp_path):
    names = [begun(tmp_path, format, "v1.2").partial.name for format in FORMATS]
    assert names == ["v1.2_00001_.partial.mp4", "v1.2_00002_.partial.webm",
                     "v1.2_00003_.partial.mkv", "v1.2_00004_.partial"]  # fmt: skip


@pytest.mark.parametrize("format", FORMATS)
def test_a_run_without_frames_gives_its_name_back(tmp_path, format):
    def broken():
        raise RuntimeError("no memory")
        yield

    with pytest.raises(RuntimeError):
        write_video(begun(tmp_path, format), broken(), frame_rate=8, format=format)
    assert list(tmp_path.iterdir()) == []


def test_still_files_are_named_at_the_end_or_not_at_all(tmp_path):
    file = NewFile.numbered(tmp_path / "a", ".txt")
    with file.writing() as partial:
        partial.write_text("whole")
    assert file.path.read_text() == "whole" and file.left() is None
    with pytest.raises(OSError), NewFile.numbered(tmp_path / "a", ".txt").writing() as partial:
        partial.write_text("half")
        raise OSError(errno.ENOSPC, "full")
    assert [path.name for path in tmp_path.iterdir()] == ["a_00001_.txt"]


KILLED = """
import sys, time, torch
from pathlib import Path
from videoldm.core.media.new_files import NewFile
from videoldm.core.media.files import encoding_of, write_video
folder, format = Path(sys.argv[1]), sys.argv[2]
suffix = "" if format == "png" else "." + format
file = NewFile.numbered(folder / "a", suffix, partial_suffix=encoding_of(format).partial_suffix)
def chunks():
    while True:
        yield torch.zeros(4, 3, 16, 16)
        time.sleep(0.01)
write_video(file, chunks(), frame_rate=8, format=format)
"""


@pytest.mark.parametrize("format", ["mp4", "gif"])
def test_after_a_kill_the_next_run_takes_a_fresh_name(tmp_path, format):
    command = [sys.executable, "-c", KILLED, str(tmp_path), format]
    with subprocess.Popen(command) as process:
        until = time.monotonic() + 60
        while not list(tmp_path.iterdir()) and time.monotonic() < until:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    (left,) = tmp_path.iterdir()
    before = left.read_bytes()
    for number in (2, 3):
        path = write_video(begun(tmp_path, format), [frames(0.0)], frame_rate=8, format=format).path
        assert path.name == f"a_{number:05}_.{format}" and open_video(path).frames == FRAMES
    assert left.read_bytes() == before and ".partial" in left.name
