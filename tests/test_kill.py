"""A few runs that are killed and resumed; `python -m tests.kill` does many."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes can be forked here")


def test_runs_that_are_killed_end_with_the_same_files():
    # In its own process, because one with several threads, like this one, must not be forked.
    names = ["prediction", "upsampling, independent"]
    command = [sys.executable, "-m", "tests.kill", "--times", "4", "--only", *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    told = done.stdout.splitlines()
    assert [line[:24].strip() for line in told] == names
    clean = "0 files differ, 0 chunks made twice, 0 broken, 0 failed"
    assert all(line.endswith(clean) for line in told), done.stdout
    # Two of each were killed, however busy the machine is.
    assert all(line[24:].startswith(" 2 of ") for line in told), done.stdout
