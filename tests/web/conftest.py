"""The browser scripts run in Node."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

WEB = Path(__file__).resolve().parents[2] / "web"


@pytest.fixture(scope="session")
def javascript():
    """javascript(module, expression) evaluates an expression with the module's exports as `m`."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node to run the scripts with")

    def run(module: str, expression: str):
        code = f"import * as m from {json.dumps((WEB / module).as_uri())};"
        code += f"process.stdout.write(JSON.stringify({expression}));"
        command = [node, "--input-type=module", "--no-warnings", "-e", code]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run
