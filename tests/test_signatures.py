"""Functions take at most seven arguments; more than that is an object with a name."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import videoldm

ROOT = Path(videoldm.__file__).parent
FILES = sorted([*(ROOT / "core").rglob("*.py"), *(ROOT / "nodes" / "stages").rglob("*.py")])
MOST = 7


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_public_functions_take_at_most_seven_arguments(path):
    wide = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            own = node.args
            names = [one.arg for one in (*own.posonlyargs, *own.args, *own.kwonlyargs)]
            count = len([name for name in names if name not in ("self", "cls")])
            if count > MOST and not node.name.startswith("_"):
                wide.append(f"{node.name}: {count}")
    assert wide == []
