"""Tests of bad input run the command on the toy family, in an empty folder."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from videoldm.core.families.embedded import included
from videoldm.nodes.headless import main


@pytest.fixture
def here(toy_family, tmp_path, monkeypatch, configure):
    """An empty folder to run in, with the toy family as the embedded models."""
    monkeypatch.setattr(included, "WEIGHTS", toy_family)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VIDEOLDM_DEBUG", raising=False)
    for name in ("input", "models/videoldm", "models/checkpoints", "models/vae"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


@pytest.fixture
def complain(here, capsys):
    """complain(workflow, *arguments) runs it and expects a one-sentence error; returns (exit code,
    sentence)."""

    def run(workflow, *arguments, file="workflow.json") -> tuple[int, str]:
        if workflow is not None:
            Path(file).write_text(workflow if isinstance(workflow, str) else json.dumps(workflow))
        code = main(["run", file, "--quiet", "--device", "cpu", *arguments])
        lines = capsys.readouterr().err.splitlines()
        # Stopping, keeping finished work, and warnings have lines of their own.
        beside = ("kept the ", "stopping ", "videoldm: warning: ")
        said = [line for line in lines if not line.startswith(beside)]
        assert code != 0 and len(said) == 1, lines
        text = said[0].removeprefix("videoldm: ")
        assert text != said[0] and not re.search(r"\. [A-Z]|Traceback|Error:|\.$", text), text
        return code, text

    return run
