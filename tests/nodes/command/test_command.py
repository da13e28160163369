"""The `videoldm` command: validating, listing nodes and models, bad arguments, and imports."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from command_toys import RAN, REGISTRY, count, objects, workflow, write
from videoldm.nodes import headless
from videoldm.nodes.headless import main

# Validating and listing.


def test_validate_says_ok_or_every_problem(capsys):
    good = workflow("good.json", n1=count(), n2=write())
    bad = workflow("bad.json", n1=count(steps=0), n2=write(source="9"))
    assert main(["validate", good]) == 0
    assert capsys.readouterr().out == "good.json: ok (2 nodes)\n"
    assert main(["validate", good, bad]) == 2
    err = capsys.readouterr().err
    assert err == 'bad.json: node 2 (Toy_Write): input "latent" is wired to node 9, which does ' \
                  "not exist\n"  # fmt: skip
    assert RAN == []


def test_validate_in_json(capsys):
    bad = workflow("bad.json", n1=count(steps=0), n2=write())
    assert main(["validate", bad, "nowhere.json", "--json"]) == 3
    first, second = objects(capsys.readouterr().out)
    assert first["valid"] is False and first["problems"][0]["input"] == "steps"
    assert "nowhere.json" in second["problems"][0]["message"]


def test_nodes_lists_all_and_describes_one(capsys):
    assert main(["nodes"]) == 0
    table = capsys.readouterr().out
    assert all(name in table for name in REGISTRY)
    assert main(["nodes", "Toy_Count"]) == 0
    one = capsys.readouterr().out
    assert "steps (INT, 1 to 100, default 4)" in one and "How many steps." in one
    assert main(["nodes", "Count Steps", "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert described["inputs"][0] == {"name": "steps", "type": "INT", "kind": "widget",
                                      "required": True, "default": 4, "min": 1, "max": 100,
                                      "tooltip": "How many steps."}  # fmt: skip


def test_an_unknown_node_gets_a_suggestion(capsys):
    assert main(["nodes", "Toy_Cuont"]) == 2
    assert 'did you mean "Toy_Count"' in capsys.readouterr().err


def test_models_reads_headers_only(capsys, tmp_path, monkeypatch):
    import numpy as np
    from safetensors.numpy import save_file

    folder = tmp_path / "models" / "videoldm"
    folder.mkdir(parents=True)
    about = json.dumps({"kind": "temporal_layers", "family": "embedded", "config": {}, "notes": {}})
    save_file({"a": np.zeros((3, 5), np.float16)}, folder / "mine.safetensors", {"videoldm": about})
    (folder / "broken.safetensors").write_bytes(b"no header")
    assert main(["models", "--models", "models", "--json"]) == 0
    broken, mine = json.loads(capsys.readouterr().out)["files"]
    assert mine["parameters"] == 15 and mine["kind"] == "temporal_layers"
    assert "not readable" in broken["error"]
    assert main(["models", "--models", "models"]) == 0
    out = capsys.readouterr().out
    assert "videoldm/mine.safetensors" in out and "temporal_layers" in out
    assert main(["models", "--models", "elsewhere"]) == 3


# The command itself.


def test_help_documents_the_exit_codes(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {code}" in out for code in (0, 1, 2, 3, 130))
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("videoldm 0.")


@pytest.mark.parametrize("argv", [[], ["dance"], ["run"], ["run", "x", "--dtype", "int3"],
                                  ["run", "x", "--quiet", "--json"]])  # fmt: skip
def test_bad_arguments_are_one_line(capsys, argv):
    assert main(argv) == 2
    err = capsys.readouterr().err
    assert err.startswith("videoldm") and err.count("\n") == 1


def test_listing_imports_neither_torch_nor_diffusers():
    code = (
        "import sys; from videoldm.nodes.headless import main; main(['nodes']); "
        "main(['models']); main(['runs']); "
        "assert not {'torch', 'diffusers', 'transformers', 'av', 'kornia'} & set(sys.modules), "
        "sorted(set(sys.modules) & {'torch', 'diffusers', 'transformers', 'av', 'kornia'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_garbage_is_not_looked_for_while_libraries_are_imported():
    """Nor are the thousands of classes and functions that they leave behind scanned later."""
    code = (
        "import gc; from videoldm.nodes.command.registry import require_device; "
        "from videoldm.nodes.host.standalone.host import host; times = []; "
        "gc.callbacks.append(lambda phase, info: times.append(phase)); "
        "require_device(host); host.loaders; gc.callbacks.clear(); "
        "assert len(times) < 100 and gc.isenabled(), len(times); "
        "assert gc.get_freeze_count() > 100_000, gc.get_freeze_count(); "
        "gone = gc.get_freeze_count(); host.loaders; assert gc.get_freeze_count() == gone"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_output_into_a_closed_pipe_is_no_error():
    command = f"{sys.executable} -m videoldm.nodes.headless nodes --json | head -c 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stderr == "" and done.stdout == "["


def test_every_subcommand_has_a_handler_that_exists():
    from importlib import import_module

    for argv in (["run", "x"], ["validate", "x"], ["nodes"], ["models"], ["train", "x"],
                 ["evaluate", "embedded"]):  # fmt: skip
        module, function = headless.build_parser().parse_args(argv).handler
        assert callable(getattr(import_module(f"videoldm.nodes.{module}"), function))
