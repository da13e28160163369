"""Layers of imports: packages of core import those below them, nodes import core and their host."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import videoldm

ROOT = Path(videoldm.__file__).parent
CORE = sorted((ROOT / "core").rglob("*.py"))
NODE_FILES = sorted((ROOT / "nodes").rglob("*.py"))
ROOMS = (
    "kernels", "graph", "media", "weights", "diffusion", "networks", "text", "tasks", "families",
    "training", "evaluation",
)  # fmt: skip
"""The packages of core, from bottom to top: a file imports only from its own and lower ones."""
COMFY = ("comfy", "folder_paths", "execution", "server", "nodes")
HEAVY = ("torch", "numpy", "diffusers", "transformers", "einops", "av", "PIL", "kornia",
         "safetensors")  # fmt: skip


def imports(path: Path, *, top_level: bool = False) -> Iterator[str]:
    """Modules that a file imports; relative ones as paths from the root, such as ".core.noise".

    Imports under TYPE_CHECKING are ignored; top_level also ignores those inside functions.
    """
    tree = ast.parse(path.read_text())
    for node in _statements(tree.body, into_functions=not top_level):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module
        elif isinstance(node, ast.ImportFrom):
            base = path.relative_to(ROOT).parent.parts
            base = base[: len(base) - (node.level - 1)]
            name = ".".join(["", *base, *([node.module] if node.module else [])])
            yield name
            yield from (f"{name}.{one.name}" for one in node.names)


def _statements(body: list[ast.stmt], *, into_functions: bool) -> Iterator[ast.stmt]:
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            yield from _statements(node.orelse, into_functions=into_functions)
            continue
        yield node
        is_function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        if is_function and not into_functions:
            continue
        for name in ("body", "orelse", "finalbody", "handlers"):
            inner = getattr(node, name, [])
            inner = [part for part in inner if isinstance(part, (ast.stmt, ast.excepthandler))]
            yield from _statements(inner, into_functions=into_functions)


def starts_with(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == one or name.startswith((f"{one}.", f"{one}_")) for one in packages)


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(ROOT)))
def test_core_knows_neither_nodes_nor_comfyui(path):
    wrong = [
        name for name in imports(path) if name.startswith(".nodes") or starts_with(name, COMFY)
    ]
    assert wrong == []


def room_of(parts: tuple[str, ...]) -> str:
    """The package of core that a path or module is in; "" for core itself."""
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS else ""


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(ROOT)))
def test_rooms_import_from_below(path):
    own = room_of(path.relative_to(ROOT).parts)
    ours = [name.split(".")[1:] for name in imports(path) if name.startswith(".core.")]
    met = {room_of(tuple(parts)) for parts in ours}
    allowed = ROOMS[: ROOMS.index(own) + 1] if own else ()
    assert sorted(met - {""} - set(allowed)) == []


def test_every_file_of_core_is_in_a_room():
    inside = {path.relative_to(ROOT / "core").parts[0] for path in CORE}
    assert inside == {"__init__.py", *ROOMS}


@pytest.mark.parametrize("path", [*CORE, *NODE_FILES], ids=lambda path: str(path.relative_to(ROOT)))
def test_the_package_imports_itself_relatively(path):
    """ComfyUI imports the folder by path, so that no package is called videoldm there."""
    assert [name for name in imports(path) if starts_with(name, ("videoldm",))] == []


@pytest.mark.parametrize("path", NODE_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_its_own_host_knows_comfyui(path):
    if "comfyui" in path.parts:
        return
    assert [name for name in imports(path) if starts_with(name, COMFY)] == []


OF_NO_HOST = {"shared": ("standalone", "comfyui"), "comfyui": ("standalone",),
              "standalone": ("comfyui",)}  # fmt: skip


@pytest.mark.parametrize("room", OF_NO_HOST)
def test_hosts_share_rules_and_not_each_other(room):
    """Code for both is in nodes/host/shared, which imports neither."""
    files = sorted((ROOT / "nodes" / "host" / room).rglob("*.py"))
    others = tuple(f".nodes.host.{name}" for name in OF_NO_HOST[room])
    wrong = [f"{path.name}: {name}" for path in files for name in imports(path)
             if f"{name}.".startswith(tuple(f"{other}." for other in others))]  # fmt: skip
    assert files and wrong == []


@pytest.mark.parametrize("path", sorted((ROOT / "nodes").glob("*.py")), ids=lambda path: path.name)
def test_node_files_import_only_each_other_and_load_nothing_heavy(path):
    wrong = [name for name in imports(path, top_level=True)
             if starts_with(name, HEAVY) or name.startswith(".core")
             and not name.startswith(".core.graph")]  # fmt: skip
    assert wrong == []


@pytest.mark.parametrize(
    "path", sorted((ROOT / "nodes" / "stages").glob("*.py")), ids=lambda path: path.name
)
def test_stages_know_the_interface_and_no_host(path):
    assert [name for name in imports(path) if "standalone" in name or "comfyui" in name] == []


def test_the_walk_sees_imports_inside_functions_and_not_those_for_type_checkers(tmp_path):
    file = ROOT / "nodes" / "sample.py"
    assert ".nodes.stages.sampling" in set(imports(file))
    assert ".nodes.stages.sampling" not in set(imports(file, top_level=True))
