"""A process that is killed while it writes leaves a file that is empty or can be played."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from videoldm.core.media.files import open_video, read_frames, write_video

# Frames that may be missing: those in the encoder, and those before the first fragment ends.
KEPT = {"mp4": 5, "webm": 25, "gif": 1}
WRITER = """
import os, signal, sys
import torch
from videoldm.core.media.files import AudioClip, write_video

path, count, has_sound = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "sound"
generator = torch.Generator().manual_seed(0)

def chunks():
    for _ in range(count):
        yield torch.rand(1, 3, 32, 32, generator=generator) * 2 - 1
    os.kill(os.getpid(), signal.SIGKILL)

sound = AudioClip(torch.zeros(2, 480_000), 48_000) if has_sound else None
write_video(path, chunks(), frame_rate=8, audio=sound)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
@pytest.mark.parametrize(
    ("format", "sound", "counts"),
    [
        ("mp4", "silent", (3, 6)),
        ("mp4", "sound", (6, 7)),
        ("webm", "silent", (27,)),
        ("webm", "sound", (27,)),
        ("gif", "silent", (1, 2)),
    ],
)
def test_what_is_left_can_be_played_from_the_first_fragment_on(tmp_path, format, sound, counts):
    for count in counts:
        path = tmp_path / f"{count}.{format}"
        command = [sys.executable, "-c", WRITER, str(path), str(count), sound]
        assert subprocess.run(command).returncode == -signal.SIGKILL
        (left,) = tmp_path.glob(f"{count}.partial*")
        begins = KEPT[format] + (2 if sound == "sound" else 1)
        if count < begins:
            assert left.stat().st_size == 0
            continue
        frames = torch.cat(list(read_frames(left)))
        assert len(frames) == open_video(left).frames >= count - KEPT[format]


@pytest.mark.parametrize("format", KEPT)
def test_copies_of_the_file_under_way_hold_all_frames_but_the_last(tmp_path, format):
    suffix = "mkv" if format == "gif" else format
    partial, counts = Path(tmp_path / f"a.partial.{suffix}"), {}

    def chunks():
        for done in range(60):
            if done % 10 == 9:
                copy = tmp_path / f"copy{done}.{suffix}"
                copy.write_bytes(partial.read_bytes())
                counts[done] = copy
            yield torch.full((1, 3, 32, 32), done / 30 - 1)

    write_video(tmp_path / f"a.{format}", chunks(), frame_rate=8)
    for done, copy in counts.items():
        if done > KEPT[format]:
            assert open_video(copy).frames >= done - KEPT[format]
        else:
            assert copy.stat().st_size == 0
