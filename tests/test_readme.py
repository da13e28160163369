"""The README names all nodes, inputs and workflows, and packaging metadata match the tree."""

from __future__ import annotations

from pathlib import Path

from videoldm.nodes import NODES, node_registry

ROOT = Path(__file__).resolve().parents[1]


def test_the_node_reference_names_every_node_and_every_input():
    text, registry = (ROOT / "README.md").read_text(), node_registry()
    for cls in NODES:
        spec = registry[cls.define_schema().node_id]
        row = next((line for line in text.splitlines() if f"`{spec.id}`" in line), "")
        missing = [one.name for one in spec.inputs if f"`{one.name}`" not in row]
        assert spec.description in row and not missing, f"{spec.id}: {missing}"


def test_every_picture_and_workflow_of_the_readme_exists():
    text = (ROOT / "README.md").read_text()
    pictures = [part.split(")")[0] for part in text.split("](")[1:]]
    for path in pictures:
        assert path.startswith("http") or (ROOT / path).is_file(), path
    for workflow in (ROOT / "workflows").glob("*.json"):
        assert f"`{workflow.stem}`" in text, workflow.name


def test_packages_and_requirements_agree_with_the_tree():
    project = (ROOT / "pyproject.toml").read_text()
    folders = {
        "videoldm." + str(path.parent.relative_to(ROOT)).replace("/", ".")
        for top in ("core", "nodes") for path in (ROOT / top).rglob("__init__.py")
        if path.parent.name not in ("core", "nodes")
    }  # fmt: skip
    assert [name for name in sorted(folders) if f'"{name}"' not in project] == []
    for requirement in (ROOT / "requirements.txt").read_text().splitlines():
        assert f'"{requirement}"' in project.replace("'", '"') or ";" in requirement, requirement
