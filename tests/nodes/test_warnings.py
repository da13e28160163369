"""Warnings of nodes: how a host passes them on, and how the command prints them."""

from __future__ import annotations

import json
import sys

import pytest
from videoldm.core.graph import Event, Executor, graph_from_api
from videoldm.nodes.command import progress
from videoldm.nodes.headless import main
from videoldm.nodes.host.standalone import host, io
from videoldm.nodes.host.standalone.registry import build_registry


class Doubt(io.ComfyNode):
    """Warns twice with the same text and once with another."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Toy_Doubt", display_name="Doubt", is_output_node=True, category="toy",
            inputs=[io.String.Input("text", default="")], outputs=[io.Int.Output()],
        )  # fmt: skip

    @classmethod
    def execute(cls, text):
        for sentence in filter(None, (text, text, f"{text} indeed" if text else "")):
            host.warn(sentence)
        return io.NodeOutput(1)


REGISTRY = build_registry([Doubt])
TOLD = ["3 frames look wrong", "3 frames look wrong indeed"]


def graph(text: str = TOLD[0]) -> dict:
    return {"7": {"class_type": "Toy_Doubt", "inputs": {"text": text}}}


@pytest.fixture
def command(monkeypatch, tmp_path, capsys):
    """command(text, *arguments) runs the node; returns the exit code, stdout and stderr."""
    monkeypatch.setattr("videoldm.nodes.command.run.load_registry", lambda: REGISTRY)
    monkeypatch.chdir(tmp_path)

    def run(text: str, *arguments: str):
        (tmp_path / "w.json").write_text(json.dumps(graph(text)))
        code = main(["run", "w.json", *arguments])
        return code, *capsys.readouterr()

    return run


def test_the_executor_tells_each_sentence_once():
    events: list[Event] = []
    executor = Executor(REGISTRY, cache=False)
    for _ in range(2):
        result = executor.run(graph_from_api(graph()), on_event=events.append)
        assert result.warnings == {"7": TOLD}
    told = [(event.display_id, event.text) for event in events if event.kind == "warning"]
    assert told == [("7", text) for text in TOLD] * 2, "once per run, and again in the next"


@pytest.mark.parametrize("arguments", [(), ("--quiet",), ("--json",)], ids=str)
def test_the_command_says_it_on_stderr_whatever_else_it_shows(command, arguments):
    code, out, err = command(TOLD[0], *arguments)
    lines = [line for line in err.splitlines() if "warning" in line]
    assert lines == [f"videoldm: warning: node 7 (Toy_Doubt): {text}" for text in TOLD]
    assert code == 0 and ("warning" in out) == (arguments == ("--json",))


def test_json_has_an_event_for_each_and_all_in_the_result(command):
    *events, result = map(json.loads, command(TOLD[0], "--json")[1].splitlines())
    told = [(one["node_id"], one["text"]) for one in events if one["event"] == "warning"]
    assert told == [("7", text) for text in TOLD]
    assert result["warnings"] == {"7": TOLD} and result["code"] == 0
    assert json.loads(command("", "--json")[1].splitlines()[-1])["warnings"] == {}


def test_bars_print_a_warning_above_themselves(capsys):
    bars = progress.Bars(sys.stderr)
    bars.begin(graph_from_api(graph()), REGISTRY)
    bars(Event("node_start", "7", "Toy_Doubt", display_id="7"))
    bars(Event("warning", "7", "Toy_Doubt", display_id="7", text="[3/4] x " + "long " * 40))
    bars(Event("node_done", "7", "Toy_Doubt", display_id="7"))
    bars.end()
    err = capsys.readouterr().err
    assert f"videoldm: warning: node 7 (Toy_Doubt): [3/4] x {'long ' * 40}".strip() in err


def test_outside_of_a_run_it_is_logged(caplog):
    with caplog.at_level("WARNING", "videoldm"):
        host.warn("3 frames look wrong")
    assert caplog.messages == ["3 frames look wrong"]
