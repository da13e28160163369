"""Size limits: at most seven parameters for a public function (more belong into a dataclass), fifty
lines for a function, four hundred lines for a file, tests included."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import videoldm

ROOT = Path(videoldm.__file__).parent
FILES = sorted([*(ROOT / "core").rglob("*.py"), *(ROOT / "nodes" / "stages").rglob("*.py")])
TESTS = sorted((ROOT / "tests").rglob("*.py"))
PACK = sorted([*(ROOT / "core").rglob("*.py"), *(ROOT / "nodes").rglob("*.py")])
MOST, LINES_OF_A_FUNCTION, LINES_OF_A_FILE = 7, 50, 400


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


@pytest.mark.parametrize("path", PACK, ids=lambda path: str(path.relative_to(ROOT)))
def test_functions_and_files_are_short(path):
    text = path.read_text()
    assert text.count("\n") <= LINES_OF_A_FILE
    long = [f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and node.end_lineno - node.lineno >= LINES_OF_A_FUNCTION]  # fmt: skip
    assert long == []


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_of_tests_are_short(path):
    assert path.read_text().count("\n") <= LINES_OF_A_FILE
