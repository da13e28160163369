"""A ComfyUI with this pack and a toy family with random weights; the same for `videoldm run`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from browser_fixtures import chrome, frontend, no_errors  # noqa: E402, F401
from comfyui_server import ROOT, Server, found_inside, missing  # noqa: E402
from standalone_nodes import standalone_nodes  # noqa: E402
from toy_family import wake  # noqa: E402


def pytest_terminal_summary(terminalreporter):
    reason = missing()
    if reason is not None:
        terminalreporter.section("no ComfyUI", red=True, bold=True)
        terminalreporter.write_line(f"tests/host was skipped: {reason}")


@pytest.fixture(scope="session")
def comfyui(toy_family, tmp_path_factory):
    """A running server; its models folder holds the toy family under names of its own."""
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    server = Server(tmp_path_factory.mktemp("comfyui"))
    add_toys(server, toy_family)
    server.start()
    yield server
    server.stop()


def add_toys(server: Server, family: Path) -> None:
    for file in family.glob("*.safetensors"):
        wake(file)
    for file in sorted(family.iterdir()):
        server.add_models("checkpoints", file, "toy")
    for name in ("text_to_video", "prediction", "interpolation"):
        server.add_models("videoldm", family / f"{name}.safetensors", "toy")
    server.add_models("vae", family / "temporal_decoder.safetensors", "toy")


@pytest.fixture(scope="session")
def inside(toy_family):
    """What the checks of inside_sampling.py find in ComfyUI's own Python, by name."""
    for file in toy_family.glob("*.safetensors"):
        wake(file)
    return found_inside("inside_sampling.py", toy_family)


@pytest.fixture
def standalone(comfyui):
    """call(id, **inputs) runs a node of the standalone host on the server's models."""
    with standalone_nodes(comfyui.base) as call:
        yield call


@pytest.fixture
def headless(comfyui, tmp_path):
    """headless(prompt) runs an API workflow without ComfyUI and returns the files it wrote."""

    def run(prompt: dict) -> list[Path]:
        workflow = tmp_path / "workflow.json"
        workflow.write_text(json.dumps(prompt))
        command = [
            sys.executable, "-m", "videoldm.nodes.headless", "run", workflow, "--json",
            "--models", comfyui.base / "models", "--output", tmp_path / "output",
            "--input", comfyui.base / "input", "--device", "cpu",
        ]  # fmt: skip
        done = subprocess.run(
            [str(one) for one in command], capture_output=True, text=True, cwd=ROOT
        )
        assert done.returncode == 0, done.stderr
        return [Path(one) for one in json.loads(done.stdout.splitlines()[-1])["files"]]

    return run
