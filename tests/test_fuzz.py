"""Tests of the fuzz program: it detects failures, and its cases are reproducible."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("resource")
from fuzz import cases, judging, running, weights  # noqa: E402
from fuzz.running import Result  # noqa: E402


@pytest.fixture(autouse=True)
def family(toy_family, monkeypatch):
    monkeypatch.setattr(weights, "FAMILY", [toy_family])
    return toy_family


def case_of(kind: str, folder: Path, seed: int = 5, number: int = 3) -> tuple:
    folder.mkdir()
    commands = cases.make(kind, seed, number, folder)
    files = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*")) if path.is_file()
    }  # fmt: skip
    return commands, files


@pytest.mark.parametrize("kind", cases.KINDS)
def test_seed_kind_and_number_decide_a_case(kind, tmp_path):
    assert case_of(kind, tmp_path / "a") == case_of(kind, tmp_path / "b")
    others = [case_of(kind, tmp_path / f"{n}", number=n) for n in range(4, 8)]
    assert any(other != others[0] for other in others[1:])


def judged(err: str, code: int = 2, out: str = "", command=("run", "--quiet")) -> list[str]:
    result = Result(Path("none"), [list(command)], [code], [(out, err)])
    return [failure.kind for failure in judging.failures(result)]


@pytest.mark.parametrize(
    "err, kinds",
    [
        ("videoldm: node 3 (Save): overlap 9 must be smaller than window 8\n", []),
        ("videoldm: a.png cannot be read ('A sentence. Another')\n", []),
        ("videoldm run: unrecognized arguments: --x\n", []),
        ("", ["silent"]),
        ("videoldm: \n", ["empty message"]),
        ("videoldm: x.pt cannot be read:\n", ["empty message"]),
        ("videoldm: unexpected TypeError: x\n", ["unexpected"]),
        ("videoldm: one thing. Another thing\n", ["several sentences"]),
        ("videoldm: one\nvideoldm: two\n", ["several lines"]),
        ("videoldm: 'NoneType' object is not iterable\n", ["mumbling"]),
        ("videoldm: [Errno 13] Permission denied: 'a'\n", ["mumbling"]),
        ("videoldm: \x1b[31mred\n", ["control characters"]),
        (f"videoldm: {'x' * 700}\n", ["long message"]),
    ],
)
def test_messages_are_judged(err, kinds):
    assert judged(err) == kinds


def test_other_promises_are_judged():
    assert judged("", code=0) == []
    assert judged("Traceback (most recent call last):\n", code=-1) == ["traceback"]
    assert judged("videoldm: x\n", code=9) == ["exit code"]
    assert judged("", 0, '{"a": NaN}\n', ("run", "--json")) == ["not JSON"]
    file = f"{'x' * 700}.json"
    assert judged(f"{file}: it is empty\n", command=("validate", file)) == []
    assert judged(f"{file}: \n", command=("validate", file)) == ["empty message"]
    assert judged("", 0, '{"a": null}\n', ("run", "--json")) == []


def test_kinds_are_told_apart_without_names_and_numbers():
    texts = "node 3: [Errno 2] no file '/a/b.png'", "node 41: [Errno 2] no file '/c.png'"
    one, two = (judging.Failure("mumbling", text).signature for text in texts)
    assert one == two != judging.Failure("hang", "elsewhere").signature


def run(make, tmp_path, family, monkeypatch) -> Result:
    """Run a case of a kind that `make` defines."""
    monkeypatch.setitem(cases.KINDS, "made up", make)
    return running.run("made up", 0, 0, tmp_path.resolve(), family)


def test_a_case_runs_and_its_output_is_read(tmp_path, family, monkeypatch):
    result = run(lambda rng, folder: [["validate", "none.json"]], tmp_path, family, monkeypatch)
    assert result.codes == [3] and "none.json cannot be read" in result.outputs[0][1]
    assert not judging.failures(result) and not result.stopped


@pytest.mark.parametrize(
    "does, kind",
    [
        (lambda: os.kill(os.getpid(), 11), "death by SIGSEGV"),
        (lambda: Path("beside").write_text("x"), "file outside the output"),
        (lambda: os.mkdir("canary"), "code executed"),
        (lambda: os.system("true"), "code executed"),
        (lambda: [bytearray(1 << 20) for _ in range(3000)], "memory"),
        (lambda: sum(iter(int, 1)), "hang"),
    ],
)
def test_what_a_command_must_not_do_is_seen(does, kind, tmp_path, family, monkeypatch):
    monkeypatch.setattr(running, "SECONDS", 0.5 if kind == "hang" else 20)
    monkeypatch.setattr(running, "MEMORY", 200 << 20)
    monkeypatch.setattr("videoldm.nodes.headless.main", lambda command: (does(), 0)[1])
    result = run(lambda rng, folder: [["run"]], tmp_path, family, monkeypatch)
    assert kind in [failure.kind for failure in judging.failures(result)]
