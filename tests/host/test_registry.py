"""The pack meets the rules of ComfyUI's registry and of its reviewers (no ComfyUI needed)."""

from __future__ import annotations

import ast
import fnmatch
import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest
from comfyui_server import ROOT
from PIL import Image
from videoldm.nodes import NODES

tomllib = pytest.importorskip("tomllib")

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = ("core", "nodes")
SOURCES = [ROOT / "__init__.py", *(path for top in FOLDERS for path in (ROOT / top).rglob("*.py"))]
NETWORK = {
    "socket", "ssl", "http", "urllib", "urllib3", "requests", "httpx", "aiohttp", "ftplib",
    "smtplib", "websockets", "huggingface_hub", "webbrowser",
}  # fmt: skip
GONE = {"torchaudio"}
PROGRAMS = {"subprocess", "multiprocessing", "pty"}
# `videoldm evaluate` starts programs that the user names, and `videoldm train family` renders clips
# in worker processes; no node does either.
RUNS_PROGRAMS = {"core/evaluation/programs.py", "core/training/family/clips.py"}
# Checks whether a cluster listens at the address given to `videoldm run --ray`.
JOINS_A_CLUSTER = {"nodes/host/distributed/cluster.py"}
UNPICKLERS = {"load", "loads", "Unpickler", "dump", "dumps"}
ROUTES = {"get", "post", "put", "patch", "delete", "route", "add_routes", "add_static"}


def calls_and_imports(program: str) -> Iterator[tuple[ast.AST, str]]:
    """Every call with the dotted name of its function, and every import with its module."""
    for node in ast.walk(ast.parse(program)):
        if isinstance(node, ast.Call):
            yield node, ast.unparse(node.func)
        elif isinstance(node, ast.Import):
            yield from ((node, one.name) for one in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node, node.module


def where(path: Path, node: ast.AST) -> str:
    return f"{path.relative_to(ROOT)}:{node.lineno}"


@pytest.fixture(scope="module", params=SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def source(request):
    return request.param, list(calls_and_imports(request.param.read_text()))


def test_nothing_talks_to_a_network_or_starts_programs(source):
    path, found = source
    refused = set(NETWORK)
    if str(path.relative_to(ROOT)) in JOINS_A_CLUSTER:
        refused.remove("socket")
    if str(path.relative_to(ROOT)) not in RUNS_PROGRAMS:
        refused |= PROGRAMS
    for node, name in found:
        if isinstance(node, ast.Call):
            assert name not in ("os.system", "os.popen", "os.execv"), where(path, node)
            if name.endswith(".from_pretrained"):
                assert "local_files_only=True" in ast.unparse(node), where(path, node)
        else:
            assert name.partition(".")[0] not in refused, where(path, node)


def test_nothing_is_imported_that_later_versions_of_comfyui_do_not_bring(source):
    """Sound is read, resampled and written without torchaudio."""
    path, found = source
    for node, name in found:
        if not isinstance(node, ast.Call):
            assert name.partition(".")[0] not in GONE, where(path, node)


def test_nothing_is_unpickled_or_evaluated(source):
    path, found = source
    for node, name in found:
        if not isinstance(node, ast.Call):
            hidden = isinstance(node, ast.ImportFrom) and name in ("pickle", "joblib")
            assert not hidden, where(path, node)
            continue
        assert name not in ("eval", "exec", "compile", "__import__"), where(path, node)
        module, _, function = name.rpartition(".")
        assert not (module in ("pickle", "joblib") and function in UNPICKLERS), where(path, node)
        if name in ("torch.load", "np.load", "numpy.load"):
            safe = "weights_only=True" if name == "torch.load" else "allow_pickle=False"
            assert safe in ast.unparse(node), where(path, node)


def test_no_route_is_added(source):
    path, found = source
    for node, name in found:
        module, _, function = name.rpartition(".")
        assert not (module.endswith("routes") and function in ROUTES), where(path, node)
        assert not name.endswith(("add_routes", "add_static")), where(path, node)


@pytest.mark.parametrize(("line", "rule"), [
    ("import urllib.request", test_nothing_talks_to_a_network_or_starts_programs),
    ("from http import client", test_nothing_talks_to_a_network_or_starts_programs),
    ("import subprocess", test_nothing_talks_to_a_network_or_starts_programs),
    ("os.system('ls')", test_nothing_talks_to_a_network_or_starts_programs),
    ("Model.from_pretrained('a')", test_nothing_talks_to_a_network_or_starts_programs),
    ("import torchaudio.functional",
     test_nothing_is_imported_that_later_versions_of_comfyui_do_not_bring),
    ("eval('1')", test_nothing_is_unpickled_or_evaluated),
    ("pickle.load(file)", test_nothing_is_unpickled_or_evaluated),
    ("from pickle import load", test_nothing_is_unpickled_or_evaluated),
    ("torch.load(path)", test_nothing_is_unpickled_or_evaluated),
    ("np.load(path)", test_nothing_is_unpickled_or_evaluated),
    ("server.routes.get('/a')(answer)", test_no_route_is_added),
    ("app.add_static('/a', folder)", test_no_route_is_added),
])  # fmt: skip
def test_each_rule_refuses_what_it_is_about(line, rule):
    with pytest.raises(AssertionError, match=r"core/a\.py:1"):
        rule((ROOT / "core" / "a.py", list(calls_and_imports(line))))


def test_nothing_runs_when_the_pack_is_installed():
    for name in ("install.py", "setup.py", "prestartup_script.py", "uninstall.py"):
        assert not (ROOT / name).exists()


def test_requirements_are_the_dependencies():
    listed = (ROOT / "requirements.txt").read_text().replace('"', "'").split("\n")
    wanted = [one.replace('"', "'") for one in PROJECT["project"]["dependencies"]]
    assert sorted(filter(None, listed)) == sorted(wanted)


def test_the_project_is_described_as_the_registry_wants_it():
    project, comfy = PROJECT["project"], PROJECT["tool"]["comfy"]
    assert re.fullmatch(r"[a-z][a-z0-9-]{0,99}", project["name"]) and "comfy" not in project["name"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", project["version"])
    assert f'__version__ = "{project["version"]}"' in (ROOT / "__init__.py").read_text()
    assert comfy["PublisherId"] and comfy["DisplayName"]
    assert comfy["requires-comfyui"] == ">=0.20.0"
    assert "web" not in comfy, "WEB_DIRECTORY names the folder; both would serve it twice"
    with Image.open(ROOT / comfy["Icon"]) as icon:
        assert icon.width == icon.height <= 400


@pytest.fixture(scope="module")
def is_left_out():
    """is_left_out(path): whether .comfyignore excludes a path from the registry's archive."""
    lines = (ROOT / ".comfyignore").read_text().split("\n")
    patterns = [one for one in lines if one and not one.startswith("#")]

    def check(path: str) -> bool:
        *folders, name = path.split("/")
        in_folder = any(one.endswith("/") and one[:-1] in folders for one in patterns)
        return in_folder or any(fnmatch.fnmatch(name, one) for one in patterns)

    return check


def test_the_archive_holds_what_runs_and_no_tests(is_left_out):
    assert is_left_out("tests/host/test_registry.py") and is_left_out("Makefile")
    needed = [
        "__init__.py",
        "pyproject.toml",
        "requirements.txt",
        "LICENSE",
        "README.md",
        "web/videoldm.js",
        "icon.png",
        "workflows/text_to_video.json",
        "core/families/embedded/weights/image_model.safetensors",
        "core/training/recipes/image_model.toml",
    ]
    assert [one for one in needed if is_left_out(one) or not (ROOT / one).exists()] == []


def test_every_program_in_the_archive_is_one_that_these_tests_read(is_left_out):
    git = shutil.which("git")
    done = git and subprocess.run([git, "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if not done or done.returncode:
        pytest.skip("not a git checkout")
    archive = [one for one in done.stdout.splitlines() if not is_left_out(one)]
    read = {str(path.relative_to(ROOT)) for path in SOURCES}
    assert {one for one in archive if one.endswith(".py")} <= read
    scripts = [one for one in archive if one.endswith((".js", ".mjs", ".html"))]
    assert {one.partition("/")[0] for one in scripts} == {"web"}
    calls = re.compile(
        r"https?://(?!www\.w3\.org/2000/svg)|fetch\(|XMLHttpRequest|WebSocket|sendBeacon"
    )
    assert [one for one in scripts if calls.search((ROOT / one).read_text("utf-8"))] == []
    others = {".sh", ".bat", ".ps1", ".exe", ".so", ".dll", ".ckpt", ".pt", ".pkl"}
    assert [one for one in archive if PurePosixPath(one).suffix in others] == []


def test_ids_of_nodes_have_the_prefix_of_the_pack():
    ids = [node.define_schema().node_id for node in NODES]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"VideoLDM_[A-Z][A-Za-z]+", one) for one in ids), ids


def test_comfy_cli_finds_nothing_wrong_and_packs_what_runs(tmp_path, is_left_out):
    """`comfy node pack` validates before it packs, and does not contact the registry."""
    comfy, git = shutil.which("comfy"), shutil.which("git")
    if comfy is None or git is None:
        pytest.skip("comfy-cli is not installed")
    copy = tmp_path / "copy"
    if subprocess.run([git, "clone", "-q", ROOT, copy]).returncode:
        pytest.skip("not a git checkout")
    command = [comfy, "--skip-prompt", "--no-enable-telemetry", "node", "pack"]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=300,
                          env={**os.environ, "HOME": str(tmp_path)})  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(copy / "node.zip") as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
    assert "__init__.py" in names and [name for name in names if is_left_out(name)] == []
