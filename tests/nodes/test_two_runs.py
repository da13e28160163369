"""Two simultaneous runs into one folder each save all of their own files, of every kind."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from videoldm.core.media.files import read_frames, write_video

FRAMES = 4
KINDS = ("mp4", "webm", "gif", "png", "SaveVideo", "SaveImage", "SaveLatent")
GREYS = (-0.5, 0.5)
PREFIX = {"filename_prefix": "same/name"}


def node(class_type: str, **inputs) -> dict:
    return {"class_type": class_type, "inputs": inputs}


def workflow(kind: str, number: int) -> dict:
    """A workflow that saves the video (or latents of the size) of run `number`."""
    load = node("VideoLDM_LoadVideo", file=f"{number}.mp4", start=0, count=0, stride=1, width=0,
                height=0, fit="crop", multiple_of=8)  # fmt: skip
    if kind == "SaveLatent":
        side = 64 * (number + 1)
        latents = node("EmptyLatentImage", width=side, height=side, batch_size=1)
        return {"1": latents, "9": node(kind, samples=["1", 0], **PREFIX)}
    if kind == "SaveImage":
        return {"1": load, "9": node(kind, images=["1", 0], **PREFIX)}
    if kind == "SaveVideo":
        video = node("CreateVideo", images=["1", 0], fps=8.0)
        return {"1": load, "2": video, "9": node(kind, video=["2", 0], format="auto", **PREFIX)}
    save = node("VideoLDM_SaveVideo", images=["1", 0], format=kind, quality=18, frame_rate=8.0,
                **PREFIX)  # fmt: skip
    return {"1": load, "9": save}


WORKER = """
import contextlib, json, sys
import videoldm.core.media.contact_sheet, videoldm.core.media.files
from videoldm.nodes.headless import main
for line in sys.stdin:
    told = json.loads(line)
    with open(told["report"], "w") as report, contextlib.redirect_stdout(report):
        code = main(told["arguments"])
    print(code, flush=True)
"""
"""A process that imports everything once and then runs the command for each line of stdin."""


@pytest.fixture(scope="module")
def workers():
    command = [sys.executable, "-c", WORKER]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(2)]
    yield processes
    for process in processes:
        process.stdin.close()
        process.wait(60)


def pair(workers, folder: Path, kinds: tuple[str, str]) -> None:
    """Run both at once; fails unless each reports its own files and all of them are complete."""
    lines = []
    for number, kind in enumerate(kinds):
        flow = folder / f"{number}.json"
        flow.write_text(json.dumps(workflow(kind, number)))
        write_video(folder / f"{number}.mp4", [torch.full((FRAMES, 3, 32, 32), GREYS[number])],
                    frame_rate=8)  # fmt: skip
        arguments = ["run", str(flow), "--json", "--device", "cpu", "--input", str(folder),
                     "--output", str(folder / "output")]  # fmt: skip
        arguments += ["--contact-sheet"] * number
        report = str(folder / f"{number}.jsonl")
        lines.append(json.dumps({"arguments": arguments, "report": report}) + "\n")
    for worker, line in zip(workers, lines, strict=True):
        worker.stdin.write(line)
        worker.stdin.flush()
    codes = [int(worker.stdout.readline()) for worker in workers]
    told = [files_of(folder, number) for number in range(2)]
    assert codes == [0, 0], (kinds, told)
    together = [path for files in told for path in files]
    assert len(together) == len(set(together)), (kinds, together)
    there = {path for path in (folder / "output").rglob("*") if path.is_file()}
    assert there == set(together), (kinds, there ^ set(together))
    for number, (kind, files) in enumerate(zip(kinds, told, strict=True)):
        check(kind, number, files)


def files_of(folder: Path, number: int) -> list[Path]:
    lines = (folder / f"{number}.jsonl").read_text().splitlines()
    return [Path(one) for one in json.loads(lines[-1])["files"]]


def check(kind: str, number: int, files: list[Path]) -> None:
    if kind == "SaveLatent":
        (file,) = files
        assert load_file(file)["latent_tensor"].shape[-1] == 8 * (number + 1)
        return
    pictures = [path for path in files if path.suffix == ".png" and "_sheet" not in path.name]
    videos = [path for path in files if path.suffix in (".mp4", ".webm", ".gif")]
    assert len(pictures) == (FRAMES if kind in ("png", "SaveImage") else 0)
    assert len(videos) == (0 if pictures else 1)
    frames = [torch.from_numpy(np.array(Image.open(path))) / 127.5 - 1 for path in pictures]
    frames += list(torch.cat([*read_frames(path)]) for path in videos)
    for frame in frames:
        assert (frame - GREYS[number]).abs().max() < 0.1, (kind, number)


def kinds_of(seed: int, count: int) -> list[tuple[str, str]]:
    chosen = random.Random(seed)
    return [(chosen.choice(KINDS), chosen.choice(KINDS)) for _ in range(count)]


@pytest.mark.parametrize("kinds", [("mp4", "gif"), ("SaveImage", "SaveVideo")], ids=str)
def test_two_runs_at_once(workers, tmp_path, kinds):
    pair(workers, tmp_path, kinds)


@pytest.mark.slow
def test_fifty_pairs_of_runs(workers, tmp_path):
    for number, kinds in enumerate(kinds_of(7, 50)):
        folder = tmp_path / str(number)
        folder.mkdir()
        pair(workers, folder, kinds)
