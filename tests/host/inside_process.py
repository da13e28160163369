"""Runs programs of this folder in ComfyUI's own Python, without a server.

Importing ComfyUI takes longer than most of them, so one process imports it and forks for each.
"""

from __future__ import annotations

import atexit
import json
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from comfyui_server import PATH, PYTHON, missing

HERE = Path(__file__).resolve().parent


def found_inside(script: str, *arguments: Any, fresh: bool = False) -> Any:
    """The JSON that a program prints as its last line; see `ran_inside`."""
    return json.loads(ran_inside(script, *arguments, fresh=fresh).splitlines()[-1])


def ran_inside(script: str, *arguments: Any, fresh: bool = False) -> str:
    """The output of a program of this folder, called with ComfyUI's folder and the arguments.

    The test is skipped without a ComfyUI, and fails with the program's error. fresh: the program
    imports ComfyUI itself, with arguments of its own.
    """
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    command = [str(one) for one in (HERE / script, PATH, *arguments)]
    with tempfile.TemporaryDirectory() as folder:
        out, err = (Path(folder) / name for name in ("out", "err"))
        code = (_alone if fresh else _forked)(command, out, err)
        assert code == 0, f"{script} ended with {code}: {err.read_text()[-3000:]}"
        return out.read_text()


def _alone(command: list[str], out: Path, err: Path) -> int:
    with open(out, "w") as told, open(err, "w") as errors:
        return subprocess.run([str(PYTHON), *command], stdout=told, stderr=errors).returncode


def _forked(command: list[str], out: Path, err: Path) -> int:
    script, *arguments = command
    told = {"script": script, "arguments": arguments, "out": str(out), "err": str(err)}
    process = _process()
    process.stdin.write(json.dumps(told) + "\n")
    process.stdin.flush()
    code = process.stdout.readline()
    assert code, "ComfyUI could not be imported"
    return int(code)


@cache
def _process() -> subprocess.Popen:
    command = [str(one) for one in (PYTHON, HERE / "inside_server.py", PATH)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, **pipes)
    atexit.register(_end, process)
    return process


def _end(process: subprocess.Popen) -> None:
    process.stdin.close()
    process.wait(60)
