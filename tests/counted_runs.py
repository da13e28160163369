"""Run workflows and count the chunks that are made rather than read from the store."""

from __future__ import annotations

import json
from pathlib import Path

from videoldm.nodes.headless import main


class Runs:
    """Runs workflows in one folder and counts the chunks written, by node type."""

    def __init__(self, folder: Path, capsys):
        self.folder, self.capsys, self.made = folder, capsys, []
        self.result: dict = {}

    @property
    def store(self) -> Path:
        return self.folder / "output" / "videoldm_runs"

    def __call__(self, flow, code=0):
        self.made.clear()
        file = self.folder / "flow.json"
        file.write_text(json.dumps(flow))
        folders = ["--models", str(self.folder), "--output", str(self.folder / "output")]
        assert main(["run", str(file), "--json", "--device", "cpu", *folders]) == code
        self.result = json.loads(self.capsys.readouterr().out.splitlines()[-1])
        return {kind: self.made.count(kind) for kind in dict.fromkeys(self.made)}

    def command(self, *arguments, code=0):
        assert main(["runs", "--output", str(self.folder / "output"), *arguments]) == code
        return self.capsys.readouterr()

    def video(self) -> bytes:
        (path,) = self.result["files"]
        return Path(path).read_bytes()
