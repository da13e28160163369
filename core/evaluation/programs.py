"""Time and memory of shipped workflows, each run in its own process."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .figures import Figure, at_most

if TYPE_CHECKING:
    from .run import Run

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"
PACKAGE = __name__.partition(".core.")[0]
LENGTH = "VideoLDM_VideoSampler.frames={frames}"
SHORT_FRAMES, LONG_FRAMES = 241, 961
UNKNOWN_MEMORY = {"skipped": "memory can only be read on Linux"}
POLL = 0.05  # seconds between readings of the process's memory


@dataclass(frozen=True, kw_only=True)
class Measured:
    """seconds: wall clock. peak_rss: peak resident memory in bytes, 0 if unknown."""

    seconds: float
    peak_rss: int


def workflow(name: str) -> Path | None:
    """The file of a shipped workflow, None if it is missing."""
    path = WORKFLOWS / f"{name}.json"
    return path if path.is_file() else None


def run_workflow(path: Path, settings: Sequence[str] = ()) -> Measured:
    """Run `videoldm run` on a workflow with settings "NODE.INPUT=VALUE"; outputs are discarded.

    Raises ValueError with the last line of its errors if it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", f"{PACKAGE}.nodes.headless", "run", str(path)]
        command += [part for setting in settings for part in ("--set", setting)]
        return measure([*command, "--output", folder, "--quiet"])


def measure(command: Sequence[str]) -> Measured:
    """Run a command; ValueError with the last line of its errors if it fails."""
    started = time.perf_counter()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        peak = 0
        try:
            while process.poll() is None:
                peak = max(peak, peak_rss(process.pid))
                time.sleep(POLL)
        finally:
            process.kill()
            process.wait()
        seconds = time.perf_counter() - started
        if process.returncode:
            raise ValueError(f"{' '.join(command[-4:])} failed: {_last_line(errors)}")
    return Measured(seconds=seconds, peak_rss=peak)


def _last_line(file) -> str:
    file.seek(0)
    lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it printed nothing"


def peak_rss(pid: int) -> int:
    """Peak resident memory of a running process so far, in bytes; 0 where it cannot be read.

    Linux keeps this maximum. (The rusage of finished children is no alternative: a child's maximum
    begins with the memory of its parent.)
    """
    try:
        with open(f"/proc/{pid}/status") as status:
            fields = dict(line.split(":", 1) for line in status)
        return int(fields.get("VmHWM", "0 kB").split()[0]) * 1024
    except (OSError, ValueError):
        return 0


# --------------------------------------------------------------------------------------------------
# Figures.


def long_video(run: Run) -> list[Figure]:
    """Peak memory of the workflow `long_video` at 961 frames relative to 241."""
    path = workflow("long_video")
    name = f"long_video: peak memory at {LONG_FRAMES} frames / at {SHORT_FRAMES}"
    if path is None:
        return [at_most("long_video", name, None, 1.1, "", {"skipped": "no workflow long_video"})]
    lengths = SHORT_FRAMES, LONG_FRAMES
    short, long = (run_workflow(path, [LENGTH.format(frames=frames)]) for frames in lengths)
    if not short.peak_rss:
        return [at_most("long_video", name, None, 1.1, "", UNKNOWN_MEMORY)]
    detail = {}
    for frames, one in zip(lengths, (short, long), strict=True):
        detail |= {f"{frames} frames GB": one.peak_rss / 1e9, f"{frames} frames s": one.seconds}
    return [at_most("long_video", name, long.peak_rss / short.peak_rss, 1.1, "", detail)]


def demo(run: Run) -> list[Figure]:
    """Time and peak memory of the workflow `text_to_video`, start-up included."""
    path = workflow("text_to_video")
    seconds, memory, why = None, None, {"skipped": "no workflow text_to_video"}
    if path is not None:
        one = run_workflow(path)
        seconds = one.seconds
        memory, why = (one.peak_rss / 1e9, {}) if one.peak_rss else (None, UNKNOWN_MEMORY)
    return [
        at_most("demo", "text_to_video: time", seconds, 120, "s", why if path is None else None),
        at_most("demo", "text_to_video: peak memory", memory, 3, "GB", why),
    ]
