"""The `videoldm` command: its subcommands, exit codes, output and how it stops."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from videoldm.core.graph import Event
from videoldm.core.media.files import VideoStream, open_video, write_video
from videoldm.nodes import headless
from videoldm.nodes.command import progress, signals
from videoldm.nodes.command.run import folded
from videoldm.nodes.command.signals import StopSignals
from videoldm.nodes.headless import main
from videoldm.nodes.host.shared.saving import save_stream
from videoldm.nodes.host.standalone import host, io, ui
from videoldm.nodes.host.standalone.registry import build_registry

RAN: list[str] = []


class Count(io.ComfyNode):
    """Takes steps; at `signal_at` it sends this process the signal a user would."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Toy_Count", display_name="Count Steps", category="toy", description="Counts.",
            inputs=[
                io.Int.Input("steps", default=4, min=1, max=100, tooltip="How many steps."),
                io.Int.Input("seed", default=0, min=0, max=99, control_after_generate=True),
                io.Int.Input("signal_at", default=-1, min=-1, max=100),
                io.Combo.Input("signal", options=["SIGINT", "SIGTERM"]),
            ],
            outputs=[io.Latent.Output()],
        )  # fmt: skip

    @classmethod
    def execute(cls, steps, seed, signal_at, **inputs):
        RAN.append(f"count {steps} {seed}")
        for step in range(steps):
            if step == signal_at:
                os.kill(os.getpid(), getattr(signal, inputs["signal"]))
            host.progress(step + 1, steps)
        return io.NodeOutput((steps, seed))


class Write(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Toy_Write", display_name="Write", category="toy",
            inputs=[io.Latent.Input("latent"), io.String.Input("prefix", default="toy")],
            is_output_node=True,
        )  # fmt: skip

    @classmethod
    def execute(cls, latent, prefix):
        file = host.folders.new_file(prefix, ".txt")
        with file.writing() as partial:
            partial.write_text(str(latent))
        print("a library that talks on stdout")
        return io.NodeOutput(
            ui={"images": [ui.SavedResult(*host.folders.relative(file.path), io.FolderType.output)],
                "text": (f"wrote {latent}",)}
        )  # fmt: skip


class Fail(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Toy_Fail", display_name="Fail", is_output_node=True, category="toy",
            inputs=[io.Latent.Input("latent"), io.Combo.Input("how", options=list(FAULTS))],
            outputs=[io.Latent.Output()],
        )  # fmt: skip

    @classmethod
    def execute(cls, latent, how):
        if how == "blocked":
            return io.NodeOutput(block_execution="there is nothing to do for 3 of 4 frames")
        raise FAULTS[how]


FAULTS = {
    "value": ValueError("7 frames do not fit 4 positions"),
    "file": FileNotFoundError(2, "No such file or directory"),
    "weights": ValueError("no weight file at x.safetensors"),
    "bug": KeyError("x"),
    "blocked": None,
}
REGISTRY = build_registry([Count, Write, Fail])


@pytest.fixture(autouse=True)
def toys(monkeypatch, tmp_path):
    """Run with the toy nodes only, in an empty folder."""
    for module in ("run", "listing"):
        monkeypatch.setattr(f"videoldm.nodes.command.{module}.load_registry", lambda: REGISTRY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VIDEOLDM_DEBUG", raising=False)
    RAN.clear()


def count(**inputs) -> dict:
    given = {"steps": 4, "seed": 0, "signal_at": -1, "signal": "SIGINT", **inputs}
    return {"class_type": "Toy_Count", "inputs": given}


def write(prefix: str = "toy", source: str = "1") -> dict:
    return {"class_type": "Toy_Write", "inputs": {"latent": [source, 0], "prefix": prefix}}


def fail(how: str) -> dict:
    return {"class_type": "Toy_Fail", "inputs": {"latent": ["1", 0], "how": how}}


def workflow(path="w.json", **nodes) -> str:
    with open(path, "w") as file:
        json.dump({key.removeprefix("n"): node for key, node in nodes.items()}, file)
    return path


def objects(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


# Running.


def test_run_writes_the_files_and_says_where_they_are(capsys, tmp_path):
    file = workflow(n1=count(), n2=write())
    assert main(["run", file, "--output", "results"]) == 0
    assert (tmp_path / "results" / "toy_00001_.txt").read_text() == "(4, 0)"
    out, err = capsys.readouterr()
    assert "results/toy_00001_.txt" in out and "MB" in out
    assert "a library that talks" not in out
    assert "[1/2] Count Steps: done" in err and "[2/2] Write: done" in err


def test_quiet_prints_only_the_files(capsys):
    assert main(["run", workflow(n1=count(), n2=write()), "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert out == "output/toy_00001_.txt\n"
    assert "done" not in err


def test_set_and_seed_change_the_inputs(tmp_path):
    file = workflow(n1=count(), n2=write())
    code = main(["run", file, "--quiet", "--seed", "7", "--set", "Toy_Count.steps=2",
                 "--set", "2.prefix=a/b"])  # fmt: skip
    assert code == 0
    assert (tmp_path / "output" / "a" / "b_00001_.txt").read_text() == "(2, 7)"


def test_json_prints_events_and_then_the_result(capsys, tmp_path):
    assert main(["run", workflow(n1=count(), n2=write()), "--json"]) == 0
    *events, result = objects(capsys.readouterr().out)
    kinds = [(event["event"], event["node_id"]) for event in events]
    assert kinds == [("node_start", "1"), *[("progress", "1")] * 4, ("node_done", "1"),
                     ("node_start", "2"), ("node_done", "2")]  # fmt: skip
    assert [event["value"] for event in events if event["event"] == "progress"] == [1, 2, 3, 4]
    assert result["event"] == "result" and result["code"] == 0 and result["error"] is None
    assert result["files"] == [str(tmp_path / "output" / "toy_00001_.txt")]
    assert result["texts"] == {"2": ["wrote (4, 0)"]} and result["executed"] == ["1", "2"]
    assert result["seconds"] > 0 and result.get("peak_memory_mb", 1) > 0


def test_a_second_workflow_does_not_repeat_unchanged_nodes():
    first = workflow("a.json", n1=count(), n2=write("a"))
    second = workflow("b.json", n1=count(), n2=write("b"))
    assert main(["run", first, second, "--quiet"]) == 0
    assert RAN == ["count 4 0"]


def test_every_workflow_is_checked_before_the_first_runs():
    good = workflow("a.json", n1=count(), n2=write())
    assert main(["run", good, workflow("b.json", n1=count(steps=0), n2=write())]) == 2
    assert RAN == []


@pytest.mark.parametrize("how, code, said", [
    ("value", 1, "node 3 (Toy_Fail): 7 frames do not fit 4 positions"),
    ("file", 3, "node 3 (Toy_Fail): no such file or directory"),
    ("weights", 3, "node 3 (Toy_Fail): no weight file at x.safetensors"),
    ("bug", 1, "node 3 (Toy_Fail): unexpected KeyError: 'x'"),
])  # fmt: skip
def test_a_failing_node_gives_one_sentence_and_keeps_what_was_finished(capsys, how, code, said):
    assert main(["run", workflow(n1=count(), n2=write(), n3=fail(how)), "--quiet"]) == code
    out, err = capsys.readouterr()
    assert out == "output/toy_00001_.txt\n" and os.path.isfile("output/toy_00001_.txt")
    assert err.replace("a library that talks on stdout\n", "") == f"videoldm: {said}\n"


def test_a_failing_node_in_json_is_in_the_result(capsys):
    assert main(["run", workflow(n1=count(), n2=write(), n3=fail("value")), "--json"]) == 1
    result = objects(capsys.readouterr().out)[-1]
    assert result["code"] == 1 and result["executed"] == ["1", "2"]
    assert result["error"] == {"message": "node 3 (Toy_Fail): 7 frames do not fit 4 positions",
                               "node_id": "3"}  # fmt: skip
    assert [os.path.basename(file) for file in result["files"]] == ["toy_00001_.txt"]


def test_a_branch_that_is_stopped_with_a_message_is_a_failure(capsys):
    file = workflow(n1=count(), n2=write("a"), n3=fail("blocked"), n4=write("b", "3"))
    assert main(["run", file, "--json"]) == 1
    result = objects(capsys.readouterr().out)[-1]
    assert result["blocked"] == {"4": "there is nothing to do for 3 of 4 frames"}
    assert result["error"]["message"] == "node 4: there is nothing to do for 3 of 4 frames"
    assert [os.path.basename(file) for file in result["files"]] == ["a_00001_.txt"]


def test_debug_shows_the_traceback(capsys, monkeypatch):
    monkeypatch.setenv("VIDEOLDM_DEBUG", "1")
    main(["run", workflow(n1=count(), n3=fail("value"))])
    assert "Traceback" in capsys.readouterr().err


# Stopping.


@pytest.mark.parametrize("name, code", [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_stops_between_steps_and_keeps_what_was_finished(capsys, name, code):
    stopped = count(seed=1, signal_at=2, signal=name)
    file = workflow(n1=count(), n2=write("first"), n3=stopped, n4=write("second", "3"))
    before = signal.getsignal(getattr(signal, name))
    assert main(["run", file, "--json"]) == code
    *events, result = objects(capsys.readouterr().out)
    steps = [e["value"] for e in events if e["event"] == "progress" and e["node_id"] == "3"]
    assert steps == [1, 2, 3], "the step that was under way is finished, no other begun"
    assert [os.path.basename(file) for file in result["files"]] == ["first_00001_.txt"]
    assert result["code"] == code and "node 3" in result["error"]["message"]
    assert signal.getsignal(getattr(signal, name)) is before


def test_a_second_signal_stops_at_once(capsys):
    with StopSignals() as stop, stop.gently():
        os.kill(os.getpid(), signal.SIGINT)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
    assert stop.code == 130


def test_a_step_that_takes_too_long_is_not_waited_for(capsys, monkeypatch):
    def execute(**inputs):
        os.kill(os.getpid(), signal.SIGINT)
        until = time.monotonic() + 20
        while time.monotonic() < until:  # Never asks whether to stop.
            pass

    monkeypatch.setattr(Count, "execute", execute)
    began = time.monotonic()
    assert main(["run", workflow(n1=count(), n2=write())]) == 130
    assert time.monotonic() - began < 10
    assert "interrupted in node 1 (Toy_Count)" in capsys.readouterr().err


def test_whoever_has_asked_has_time_to_close_its_files(monkeypatch):
    with StopSignals() as stop, stop.gently():
        os.kill(os.getpid(), signal.SIGINT)
        assert stop()
        time.sleep(2 * signals.GRACE)
    assert stop.code == 130


def test_only_unfinished_videos_of_the_run_itself_are_told(capsys, monkeypatch, tmp_path):
    def execute(latent, prefix):
        other = host.folders.new_file(prefix, ".mp4")  # of a run beside this one
        other.partial.write_bytes(b"other")

        def chunks():
            yield torch.zeros(4, 3, 16, 16)
            raise ValueError("the disk is full")

        stream = VideoStream(chunks, Fraction(8), 8, 16, 16)
        file = host.folders.new_file(prefix, ".mp4")
        save_stream(host, stream, file, format="mp4", quality=18, metadata={})

    monkeypatch.setattr(Write, "execute", execute)
    assert main(["run", workflow(n1=count(), n2=write()), "--quiet"]) == 1
    assert capsys.readouterr().out == "output/toy_00002_.partial.mp4\n"
    assert open_video(tmp_path / "output" / "toy_00002_.partial.mp4").frames == 4
    assert main(["run", workflow(n1=count(), n2=write()), "--quiet"]) == 1
    assert capsys.readouterr().out == "output/toy_00004_.partial.mp4\n"


def test_contact_sheets_are_saved_beside_the_videos(capsys, tmp_path, monkeypatch):
    def execute(latent, prefix):
        file = host.folders.new_file(prefix, ".mp4")
        path = write_video(file, [torch.zeros(4, 3, 16, 16)], frame_rate=8).path
        saved = ui.SavedResult(*host.folders.relative(path), io.FolderType.output)
        return io.NodeOutput(ui=ui.PreviewVideo([saved]))

    monkeypatch.setattr(Write, "execute", execute)
    file = workflow(n1=count(), n2=write())
    assert main(["run", file, "--quiet", "--contact-sheet", "--device", "cpu"]) == 0
    saved = ["output/toy_00001_.mp4", "output/toy_00001_sheet.png"]
    assert capsys.readouterr().out.split() == saved
    assert (tmp_path / "output" / "toy_00001_sheet.png").stat().st_size > 0


def test_many_images_of_a_folder_are_told_as_the_folder():
    images = [Path(f"a/{index}.png") for index in range(61)]
    few = [Path("b/1.png"), Path("a/clip.mp4")]
    assert folded([*images, *few]) == [Path("a"), *few]


def test_the_command_runs_outside_the_main_thread():
    codes = []
    file = workflow(n1=count(), n2=write())
    thread = threading.Thread(target=lambda: codes.append(main(["run", file, "--quiet"])))
    thread.start()
    thread.join()
    assert codes == [0]


# Progress.


def test_pace_gives_the_time_left_and_starts_over_when_steps_go_back():
    now = iter([0.0, 2.0, 4.0, 10.0, 11.0])
    pace = progress.Pace(lambda: next(now))
    assert pace.left(1, 5) == 8.0
    assert pace.left(2, 5) == 6.0
    assert pace.left(0, 5) is None, "a new phase"
    assert pace.left(1, 5) == 4.0


def test_lines_tell_the_steps_only_now_and_then(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    lines = progress.Lines(sys.stderr)
    lines.names = {"1": "Count"}
    lines(Event("node_start", "1", "Toy", display_id="1"))
    for step in range(1, 11):
        now[0] += 0.5
        lines(Event("progress", "1", "Toy", value=step, total=10, display_id="1"))
    lines(Event("node_done", "1", "Toy", display_id="1"))
    assert capsys.readouterr().err.splitlines() == [
        "[1/1] Count: 4/10, 3.0 s left",
        "[1/1] Count: 8/10, 1.0 s left",
        "[1/1] Count: done in 5.0 s",
    ]


def test_bars_take_every_kind_of_event(capsys):
    bars = progress.Bars(sys.stderr)
    from videoldm.core.graph import graph_from_api

    bars.begin(graph_from_api({"1": count(), "2": write()}), REGISTRY)
    for kind in ("node_start", "progress", "node_done"):
        bars(Event(kind, "1", "Toy_Count", value=1, total=4, display_id="1"))
    bars(Event("node_cached", "2", "Toy_Write", display_id="2"))
    bars(Event("blocked", "2", "Toy_Write", display_id="2", text="no frames"))
    bars.end()
    err = capsys.readouterr().err
    assert "[1/2] Count Steps" in err and "[2/2] Write" in err and "no frames" in err


@pytest.mark.parametrize("seconds, text", [(4.21, "4.2 s"), (185, "3:05 min"), (7800, "2:10 h")])
def test_durations_are_written_for_people(seconds, text):
    assert progress.duration(seconds) == text


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


# Training.


RECIPE = """
task = "autoencoder"
output = "tiny.safetensors"
steps = 1
batch = 1
"""


def test_train_hands_the_recipe_on_and_installs_the_result(capsys, tmp_path, monkeypatch):
    from videoldm.core.families.embedded import included

    (tmp_path / "tiny.toml").write_text(RECIPE)
    seen = {}

    def train(recipe, task, folder, *, device, report):
        seen.update(name=recipe.name, task=task, folder=folder, device=str(device))
        folder.mkdir(parents=True)
        (folder / recipe.output).write_bytes(b"weights")
        return folder / recipe.output

    monkeypatch.setattr("videoldm.core.training.trainer.train", train)
    monkeypatch.setattr("videoldm.core.training.tasks.build_task", lambda recipe, cache: cache)
    monkeypatch.setattr(included, "WEIGHTS", tmp_path / "embedded")
    code = main(["train", "tiny.toml", "--output", "out", "--device", "cpu", "--install",
                 "--threads", "1"])  # fmt: skip
    assert code == 0
    assert seen["name"] == "tiny" and seen["device"] == "cpu"
    assert [str(seen[k]) for k in ("task", "folder")] == ["out/cache", "out/tiny"]
    assert (tmp_path / "embedded" / "tiny.safetensors").read_bytes() == b"weights"
    assert capsys.readouterr().out.strip() == str(tmp_path / "embedded" / "tiny.safetensors")


@pytest.mark.parametrize("text, code, said", [
    (None, 3, "no recipe"),
    (RECIPE + "colour = 3", 2, "unknown keys: colour"),
    ("steps = ", 2, "Invalid value"),
    ("steps = 4", 2, "missing"),
])  # fmt: skip
def test_a_bad_recipe_is_one_sentence(capsys, tmp_path, text, code, said):
    if text is not None:
        (tmp_path / "r.toml").write_text(text)
    assert main(["train", "r.toml"]) == code
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1 and "r.toml" in err
    assert not (tmp_path / "training").exists()


# Evaluating.


def test_evaluate_prints_the_figures(capsys, monkeypatch):
    from videoldm.core.evaluation import included
    from videoldm.core.evaluation.figures import at_least

    def evaluate(report, *, only, device):
        report(f"measuring {only} on {device}")
        return [at_least("colour", "colour recognised", 97.0, 95.0, "%")]

    monkeypatch.setattr(included, "evaluate", evaluate)
    monkeypatch.setattr(included, "GROUPS", {"colour": None})
    assert main(["evaluate", "embedded", "--json", "--only", "colour", "--device", "cpu"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)[0]["value"] == 97.0 and "measuring ['colour'] on cpu" in err
    assert main(["evaluate", "embedded", "--device", "cpu"]) == 0
    assert "97.0 %" in capsys.readouterr().out
    assert main(["evaluate", "embedded", "--only", "smell", "--device", "cpu"]) == 2
    assert '"smell", expected one of colour' in capsys.readouterr().err


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
        "main(['models']); "
        "assert not {'torch', 'diffusers', 'transformers', 'av', 'kornia'} & set(sys.modules), "
        "sorted(set(sys.modules) & {'torch', 'diffusers', 'transformers', 'av', 'kornia'})"
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
