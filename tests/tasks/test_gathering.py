"""Long videos as one tensor that is mapped to a file."""

import os
from pathlib import Path

import pytest
import torch
from model_toys import normal
from videoldm.core.tasks.gathering import Gathering, in_parts, is_mapped

CHUNKS = [normal(2, n, 4, 3, 3, seed=n) for n in (5, 3, 1, 4)]


def gathered(folder, axis, held):
    whole = Gathering(folder, axis=axis, held=held)
    for chunk in CHUNKS:
        whole.add(chunk.movedim(1, axis))
    return whole


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("held", [0, 1000, 3000, 10**6])
def test_the_video_is_the_same_wherever_it_lies(tmp_path, axis, held):
    whole = gathered(tmp_path, axis, held)
    expected = torch.cat(CHUNKS, dim=1).movedim(1, axis)
    assert torch.equal(whole.tensor(), expected) and len(whole) == 13
    assert whole.is_mapped == (held < 10**6) and whole.frames == 13 * whole.is_mapped
    assert not any(tmp_path.iterdir())  # the file has no name


def test_a_mapped_video_outlives_its_maker_and_can_be_written_to(tmp_path):
    video, again = (gathered(tmp_path, 1, 0).tensor() for _ in range(2))
    video += 1
    assert torch.equal(video - 1, torch.cat(CHUNKS, dim=1) + 1 - 1)
    assert torch.equal(again, torch.cat(CHUNKS, dim=1))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_parts_are_the_whole_also_after_its_pages_are_released(tmp_path, axis):
    video = gathered(tmp_path, axis, 0).tensor()
    video += 1
    expected = torch.cat(CHUNKS, dim=1).movedim(1, axis) + 1
    for _ in range(2):
        assert torch.equal(torch.cat(list(in_parts(video, 4, axis=axis)), dim=axis), expected)
    assert torch.equal(video, expected)
    assert is_mapped(video) and is_mapped(video[:1]) and not is_mapped(expected)
    assert not is_mapped(None)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read on Linux")
def test_neither_gathering_nor_reading_holds_the_video(tmp_path):
    chunk, chunks = torch.rand(1, 64, 4, 64, 64), 48  # 4 MiB each
    begun, most = resident(), 0

    whole = Gathering(tmp_path)
    for _ in range(chunks):
        whole.add(chunk)
        most = max(most, resident() - begun)
    for part in in_parts(whole.tensor(), 64, axis=1):
        assert torch.equal(part, chunk)
        most = max(most, resident() - begun)
    assert most < 8 * chunk.nbytes


def resident():
    """Resident memory of this process in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_where_nothing_can_be_written_memory_is_used(tmp_path):
    (tmp_path / "folder").write_text("a file")
    whole = gathered(tmp_path / "folder", 1, 0)
    assert torch.equal(whole.tensor(), torch.cat(CHUNKS, dim=1)) and not whole.is_mapped


def test_a_disk_that_fills_up_leaves_the_rest_in_memory(tmp_path):
    whole = Gathering(tmp_path, held=0)
    for k, chunk in enumerate(CHUNKS):
        if k == 2:
            whole.file = _Full(whole.file)
        whole.add(chunk)
    whole.file = whole.file.file
    assert torch.equal(whole.tensor(), torch.cat(CHUNKS, dim=1)) and whole.frames == 8


class _Full:
    def __init__(self, file):
        self.file, self.tell, self.seek = file, file.tell, file.seek

    def write(self, data):
        self.file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")
