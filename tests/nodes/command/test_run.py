"""`videoldm run`: exit codes, output, and the files kept when a node fails."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
import torch
from command_toys import RAN, Write, count, fail, objects, workflow, write
from videoldm.core.media.files import write_video
from videoldm.nodes.command.run import folded
from videoldm.nodes.headless import main
from videoldm.nodes.host.standalone import host, io, ui


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
