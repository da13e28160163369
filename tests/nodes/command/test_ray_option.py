"""`videoldm run --ray` fails with one sentence if there is no Ray or no cluster."""

from __future__ import annotations

import sys

import pytest
from command_toys import count, workflow, write
from videoldm.nodes.headless import main


def test_without_ray_it_says_how_to_install_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["run", workflow(n1=count(), n2=write()), "--ray"]) == 2
    said = capsys.readouterr().err
    assert said == (
        "videoldm: --ray needs Ray, which is not installed: pip install videoldm[ray]\n"
    )


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "ray://127.0.0.1:10001", ":80"])
def test_a_cluster_that_does_not_answer_is_one_sentence(address, capsys):
    pytest.importorskip("ray", reason="Ray is not installed: pip install videoldm[ray]")
    assert main(["run", workflow(n1=count(), n2=write()), "--ray", address]) == 2
    assert capsys.readouterr().err == (
        f"videoldm: no Ray cluster answers at {address}, which must be HOST:PORT or auto\n"
    )


@pytest.mark.parametrize("number", ["0", "two", "-1", "1.5"])
def test_a_number_of_workers_is_one_from_1_on(number, capsys):
    assert main(["run", "flow.json", "--ray", "auto", f"--workers={number}"]) == 2
    assert f"{number} must be a whole number of at least 1" in capsys.readouterr().err
