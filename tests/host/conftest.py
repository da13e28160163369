"""Fixtures: a ComfyUI server with this pack and the toy family, and `videoldm run` with both."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from browser_fixtures import chrome, frontend, no_errors  # noqa: E402, F401
from comfyui_server import ROOT, Server, missing  # noqa: E402
from inside_process import found_inside  # noqa: E402
from standalone_nodes import standalone_nodes  # noqa: E402
from toy_family import randomize_zeros  # noqa: E402


def pytest_terminal_summary(terminalreporter):
    reason = missing()
    if reason is not None:
        terminalreporter.section("no ComfyUI", red=True, bold=True)
        terminalreporter.write_line(f"tests/host was skipped: {reason}")


@pytest.fixture(scope="session")
def toy_family(toy_family, tmp_path_factory):
    """A copy of the toy family without zero-initialised weights; other tests in the same process
    use the original."""
    folder = tmp_path_factory.mktemp("woken") / "embedded"
    shutil.copytree(toy_family, folder)
    for file in folder.glob("*.safetensors"):
        randomize_zeros(file)
    return folder


@pytest.fixture(scope="session")
def comfyui(toy_family, tmp_path_factory):
    """A running server with the toy family's files in its models folders, under "toy" names."""
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    server = Server(tmp_path_factory.mktemp("comfyui"))
    add_toys(server, toy_family)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def mortal_comfyui(toy_family, tmp_path):
    """A server that a test may kill and restart."""
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    server = Server(tmp_path / "comfyui")
    add_toys(server, toy_family)
    yield server.start()
    server.stop()


def add_toys(server: Server, family: Path) -> None:
    for file in sorted(family.iterdir()):
        server.add_models("checkpoints", file, "toy")
    for name in ("text_to_video", "prediction", "interpolation"):
        server.add_models("videoldm", family / f"{name}.safetensors", "toy")
    server.add_models("vae", family / "temporal_decoder.safetensors", "toy")


@pytest.fixture(scope="session")
def inside(toy_family):
    """Results, by name, of the checks in inside_sampling.py, run in ComfyUI's own Python."""
    return found_inside("inside_sampling.py", toy_family)


@pytest.fixture
def standalone(comfyui):
    """call(id, **inputs) runs a node of the standalone host on the server's models."""
    with standalone_nodes(comfyui.base) as call:
        yield call


RUNNER = """
import json, os, sys, traceback
import av, diffusers, kornia, transformers
import videoldm.core.media.files, videoldm.nodes.host.standalone.model
from videoldm.nodes.headless import main
for line in sys.stdin:
    told = json.loads(line)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            for stream, name in ((1, "out"), (2, "err")):
                os.dup2(os.open(told[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
            code = main(told["arguments"])
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Imports everything once, then forks a process for each command."""


@pytest.fixture(scope="session")
def runner():
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", RUNNER], cwd=ROOT, **pipes)
    yield process
    process.stdin.close()
    process.wait(60)


@pytest.fixture
def headless(comfyui, runner, tmp_path):
    """headless(prompt) runs an API workflow without ComfyUI and returns the saved files."""

    def run(prompt: dict) -> list[Path]:
        workflow, out, err = (tmp_path / name for name in ("workflow.json", "out", "err"))
        workflow.write_text(json.dumps(prompt))
        arguments = [
            "run", workflow, "--json", "--models", comfyui.base / "models",
            "--output", tmp_path / "output", "--input", comfyui.base / "input", "--device", "cpu",
        ]  # fmt: skip
        told = {"arguments": [str(one) for one in arguments], "out": str(out), "err": str(err)}
        runner.stdin.write(json.dumps(told) + "\n")
        runner.stdin.flush()
        assert runner.stdout.readline() == "0\n", err.read_text()
        return [Path(one) for one in json.loads(out.read_text().splitlines()[-1])["files"]]

    return run
