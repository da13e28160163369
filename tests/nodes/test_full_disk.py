"""Runs on a disk (a tmpfs) that is full, read-only, or loses a folder."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from kill.flows import flows
from videoldm.core.tasks.chunk_files import is_whole
from videoldm.core.tasks.chunk_store import ChunkStore
from videoldm.core.tasks.kept_runs import OUTPUT

FLOW = flows()["prediction"]
ROOM = 8 * 2**20


class Disk:
    """A file system of `size` bytes at a folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def mount(self, size: int, *more: str) -> None:
        options = ",".join([f"size={size}", *more])
        given = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.folder)]
        done = subprocess.run(given, capture_output=True)
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.decode().strip()}")

    def change(self, *options: str) -> None:
        command = ["mount", "-o", ",".join(["remount", *options]), str(self.folder)]
        subprocess.run(command, check=True)

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], capture_output=True)

    @property
    def used(self) -> int:
        return shutil.disk_usage(self.folder).used

    def empty(self) -> None:
        for path in self.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.fixture
def disk():
    """disk(folder, size) mounts a file system there until the test ends."""
    if not sys.platform.startswith("linux") or shutil.which("mount") is None:
        pytest.skip("no file system can be mounted here")
    made = []

    def at(folder: Path, size: int = ROOM) -> Disk:
        made.append(Disk(folder))
        made[-1].mount(size)
        return made[-1]

    yield at
    for one in made:
        one.unmount()


def chunks(store: Path) -> set[Path]:
    found = {path for path in store.glob("*/*.safetensors") if OUTPUT not in path.name}
    assert all(is_whole(path) for path in found)
    return found


def told(runs) -> list[str]:
    return [text for texts in runs.result["warnings"].values() for text in texts
            if "finished chunks cannot be kept" in text]  # fmt: skip


def test_a_disk_that_fills_up_keeps_what_was_finished_and_goes_on_with_room(runs, disk):
    own = disk(runs.store)
    made = sum(runs(FLOW).values())
    expected, needs = runs.video(), own.used
    own.empty()
    own.change(f"size={int(0.6 * needs)}")
    runs(FLOW)
    assert runs.video() == expected
    kept = chunks(runs.store)
    assert 0 < len(kept) < made
    sentences = told(runs)
    assert sentences and all("no space left on device" in text.lower() for text in sentences)
    assert len(set(sentences)) == len(sentences) <= 2, "one for each node, however many chunks"
    own.change(f"size={ROOM}")
    assert sum(runs(FLOW).values()) == made - len(kept)
    assert runs.video() == expected and len(chunks(runs.store)) == made and not told(runs)


def test_a_disk_with_no_room_for_the_video_says_so_and_loses_nothing(runs, disk):
    own = disk(runs.folder / "output")
    made = sum(runs(FLOW).values())
    expected = runs.video()
    for path in runs.folder.glob("output/*.mp4"):
        path.unlink()
    filler = own.folder / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(bytes(4096))
    runs(FLOW, code=1)
    message = runs.result["error"]["message"]
    assert "o space left" in message and "\n" not in message
    assert len(chunks(runs.store)) == made and not list(runs.folder.glob("output/*.mp4"))
    filler.unlink()
    assert runs(FLOW) == {} and runs.video() == expected


def test_a_disk_that_becomes_read_only_is_told_and_taken_up_again(runs, disk, monkeypatch):
    own, write, count = disk(runs.store), ChunkStore.write, []
    made = sum(runs(FLOW).values())
    expected = runs.video()
    own.empty()

    def locked(store, *given):
        count.append(1)
        if len(count) == 4:
            own.change("ro")
        write(store, *given)

    with monkeypatch.context() as patched:
        patched.setattr(ChunkStore, "write", locked)
        runs(FLOW)
    assert runs.video() == expected and len(chunks(runs.store)) == 3
    sentences = told(runs)
    assert sentences and all("read-only file system" in text.lower() for text in sentences)
    own.change("rw")
    assert sum(runs(FLOW).values()) == made - 3 and runs.video() == expected


def test_a_folder_that_is_deleted_in_the_middle_is_made_again(runs, monkeypatch):
    made, write, count = sum(runs(FLOW).values()), ChunkStore.write, []
    expected = runs.video()
    shutil.rmtree(runs.store)

    def deleted(store, *given):
        write(store, *given)
        count.append(1)
        if len(count) == 4:
            shutil.rmtree(runs.store)

    with monkeypatch.context() as patched:
        patched.setattr(ChunkStore, "write", deleted)
        runs(FLOW)
    assert runs.video() == expected and not told(runs)
    assert len(chunks(runs.store)) == made - 4
    assert runs(FLOW) == {}, "the latents as a whole were kept when all of them were there"
    assert runs.video() == expected
