"""Runs of the command in forked processes that log the chunks they make."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from toy_family import randomize_zeros, write_toy_family
from videoldm.core.families.embedded import included
from videoldm.core.tasks.chunk_store import ChunkStore
from videoldm.nodes import node_registry
from videoldm.nodes.headless import main

from .flows import Flow


@dataclass
class RunFolder:
    """A folder with one workflow and the output of its runs. toys: the toy family's folder."""

    folder: Path
    flow: Flow
    toys: Path
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = self.folder / "chunks.txt"
        self.log.touch()
        (self.folder / "flow.json").write_text(json.dumps(self.flow))

    @property
    def chunks(self) -> list[str]:
        """The chunks made and stored so far; those made twice are listed twice."""
        return self.log.read_text().split()

    def run(self, killed_after: float | None = None) -> tuple[int | None, float]:
        """(exit code, seconds) of a run; the code is None if it was killed, which happens after
        `killed_after` seconds."""
        begun, child = time.monotonic(), os.fork()
        if child == 0:
            self._child()
        while True:
            done, status = os.waitpid(child, os.WNOHANG)
            passed = time.monotonic() - begun
            if done:
                code = os.waitstatus_to_exitcode(status)
                return (None if code == -signal.SIGKILL else code), passed
            if killed_after is not None and passed >= killed_after:
                os.kill(child, signal.SIGKILL)
                killed_after = None
            time.sleep(0.002)

    def _child(self) -> None:
        code = 1
        try:
            torch.set_num_threads(1)
            included.WEIGHTS = self.toys
            write = ChunkStore.write

            def logged(store: ChunkStore, path: Path, *rest) -> None:
                write(store, path, *rest)
                with self.log.open("a") as log:
                    log.write(f"{path.parent.name}/{path.name}\n")

            ChunkStore.write = logged
            with (self.folder / "report.jsonl").open("w") as report:
                with contextlib.redirect_stdout(report):
                    code = main(self._arguments())
        finally:
            sys.stdout.flush()
            os._exit(code)

    def _arguments(self) -> list[str]:
        return ["run", str(self.folder / "flow.json"), "--json", "--device", "cpu",
                "--output", str(self.folder / "output")]  # fmt: skip

    def chunk_files(self) -> list[Path]:
        return sorted(self.folder.rglob("videoldm_runs/*/*.safetensors"))

    def output_files(self) -> list[Path]:
        """All videos in the output folder, unfinished ones included."""
        return list(self.folder.glob("output/*.*"))

    def result(self) -> dict:
        """The last JSON line that a run printed."""
        return json.loads((self.folder / "report.jsonl").read_text().splitlines()[-1])

    def video(self) -> bytes:
        """The file that the last run made."""
        (path,) = self.result()["files"]
        return Path(path).read_bytes()


def prepare_toys(folder: Path) -> Path:
    """Write the toy family with weights that are nowhere zero, and return its folder."""
    folder.mkdir()
    for file in write_toy_family(folder).glob("*.safetensors"):
        randomize_zeros(file)
    return folder


def prepare() -> None:
    """Import everything before forking, so that runs are short."""
    node_registry()
    import videoldm.core.media.files
    import videoldm.core.tasks.long_video
    import videoldm.nodes.host.standalone.loaders
    import videoldm.nodes.stages.decoding
    import videoldm.nodes.stages.interpolating
    import videoldm.nodes.stages.sampling
    import videoldm.nodes.stages.upsampling  # noqa: F401
