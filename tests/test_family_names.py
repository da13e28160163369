"""Model families are named only in core/families: not in nodes, and not in other code of core.

Docstrings and comments of core may cite the source of a formula or a layer. Training and evaluation
programs are exempt, since they are for particular models.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest
import videoldm

ROOT = Path(videoldm.__file__).parent
PROGRAMS = ("families", "training", "evaluation")
CORE = [path for path in sorted((ROOT / "core").rglob("*.py"))
        if path.relative_to(ROOT / "core").parts[0] not in PROGRAMS]  # fmt: skip
NODES = [ROOT / "__init__.py", *sorted((ROOT / "nodes").rglob("*.py"))]

PUBLISHED = (
    "lavie", "animatediff", "lvdm", "videocrafter", "modelscope", "zeroscope", "svd",
    "stable[ _-]?video", "stable[ _-]?diffusion",
)  # fmt: skip
NAMES = re.compile("|".join(PUBLISHED), re.IGNORECASE)
OWN = re.compile(r"(?<![a-z])embedded(?![a-z])", re.IGNORECASE)
"""The family that comes with the pack; only checked in nodes, since core also uses the ordinary
word."""

SEARCHED = "search_aliases"
"""Exempt: users search for a node by the name of a family that does the same."""
CORE_NODE = ("SVD_img2vid_Conditioning", "stable video")
OF_COMFYUI = {
    "nodes/host/standalone/core_nodes_parts.py": ("stable_diffusion",),
    "nodes/host/standalone/core_nodes_sdxl.py": ("model/conditioning/stable diffusion",),
    "nodes/host/standalone/core_nodes.py": CORE_NODE,
    "nodes/host/standalone/core_nodes_video_model.py": CORE_NODE,
    "nodes/host/comfyui/model.py": ("SVD_img2vid",),
}
"""Exempt, by file: names of ComfyUI's own classes, nodes, categories and options."""


def identifiers_and_texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, text) of all names and strings of a module except docstrings and search aliases."""
    left_out = {id(one) for one in _docstrings(tree)} | {id(one) for one in _searched(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found = [] if id(node) in left_out else [node.value]
        else:
            fields = ("id", "attr", "name", "asname", "module", "arg")
            found = [getattr(node, field, None) for field in fields]
        yield from ((getattr(node, "lineno", 0), one) for one in found if isinstance(one, str))


def _docstrings(tree: ast.AST) -> Iterator[ast.Constant]:
    """Constants that are statements: docstrings, including those of variables."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield node.value


def _searched(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == SEARCHED:
            yield from ast.walk(node.value)


def prose(text: str, tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, text) of docstrings and comments."""
    yield from ((one.lineno, str(one.value)) for one in _docstrings(tree))
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def _without(text: str, allowed: tuple[str, ...]) -> str:
    return "" if text in allowed else re.sub("|".join(allowed), "", text) if allowed else text


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(ROOT)))
def test_core_names_families_only_as_sources(path):
    found = identifiers_and_texts(ast.parse(path.read_text()))
    assert [f"{line}: {text}" for line, text in found if NAMES.search(text)] == []


@pytest.mark.parametrize("path", NODES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nodes_name_no_family(path):
    text = path.read_text()
    tree, allowed = ast.parse(text), OF_COMFYUI.get(str(path.relative_to(ROOT)), ())
    found = [*identifiers_and_texts(tree), *prose(text, tree)]
    named = [f"{line}: {text}" for line, text in found
             if any(names.search(_without(text, allowed)) for names in (NAMES, OWN))]  # fmt: skip
    assert named == []


def test_the_rule_sees_names_texts_and_comments_and_leaves_out_search_aliases():
    program = (
        '"""About lavie."""\nfrom x import lavie_y\nz = f"as {z} LaVie does"  # lavie\n'
        'Schema(search_aliases=["lavie"])\n'
    )
    tree = ast.parse(program)
    assert [line for line, one in identifiers_and_texts(tree) if NAMES.search(one)] == [2, 3]
    assert [line for line, one in prose(program, tree) if NAMES.search(one)] == [1, 3]
    assert OWN.search("the embedded model") and not OWN.search("embedded_z, reembeddeds"[9:])
