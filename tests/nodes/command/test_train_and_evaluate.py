"""`videoldm train` and `videoldm evaluate`: arguments, output, exit codes."""

from __future__ import annotations

import json

import pytest
from videoldm.nodes.headless import main

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


def test_train_family_hands_on_what_is_asked_for(capsys, tmp_path, monkeypatch):
    asked = []

    def train_family(how, report):
        asked.append(how)
        return how.output / "weights"

    monkeypatch.setattr("videoldm.core.training.family.run.train_family", train_family)
    assert main(["train", "family", "--minutes", "2.5", "--scale", "0.5", "--only", "video",
                 "--from", "old", "--workers", "3", "--device", "cpu", "--threads", "1",
                 "--set", "video.batch=3"]) == 0  # fmt: skip
    (how,) = asked
    assert (how.minutes, how.scale, how.size, how.workers) == (2.5, 0.5, 64, 3)
    assert (how.only, str(how.start), how.changes) == (("video",), "old", ("video.batch=3",))
    assert capsys.readouterr().out.strip() == "training/family/weights"


def test_train_family_refuses_in_one_sentence(capsys, tmp_path):
    assert main(["train", "family", "--only", "sound", "--device", "cpu"]) == 2
    assert main(["train", "family", "--minutes", "0", "--device", "cpu"]) == 2
    assert main(["train", "family", "--from", "nowhere", "--device", "cpu"]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 3 and "'sound'" in said[0]
    assert "minutes 0.0" in said[1] and "nowhere" in said[2]


# Evaluating.


def test_evaluate_measures_another_folder_of_weights(capsys, tmp_path, monkeypatch):
    from videoldm.core.evaluation import included as figures
    from videoldm.core.families.embedded import included

    seen = []

    def evaluate(report, *, only, device):
        seen.append((included.path_of("upsampler"), included.path_of("prediction")))
        return []

    monkeypatch.setattr(figures, "evaluate", evaluate)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/video.safetensors").touch()
    assert main(["evaluate", "embedded", "--weights", "mine", "--json", "--device", "cpu"]) == 0
    mine = tmp_path / "mine"
    assert seen == [(mine / "upsampler.safetensors", mine / "video.safetensors")]
    assert included.WEIGHTS == included.OWN_WEIGHTS
    assert main(["evaluate", "embedded", "--weights", "none"]) == 3
    assert "no folder none" in capsys.readouterr().err


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


def test_programs_say_how_far_they_are_beside_their_figures(capsys, monkeypatch, tmp_path):
    """Progress goes to stderr, so that stdout holds only JSON."""
    from videoldm.core.evaluation import decoder, fine_tuning

    def kept(folder, say):
        say(f"in {folder.name}")
        return {"ratio": 0.9}, "0.9 of before"

    def timed(say):
        say("pass 1 of 2")
        return {"share": 0.8}, "0.8 of the time"

    monkeypatch.setattr(fine_tuning, "report", kept)
    monkeypatch.setattr(decoder, "report", timed)
    output = tmp_path / "kept"
    assert main(["evaluate", "fine_tuning", "--json", "--output", str(output)]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"ratio": 0.9} and err.strip() == "in kept"
    assert main(["evaluate", "decoder"]) == 0
    out, err = capsys.readouterr()
    assert out.strip() == "0.8 of the time" and err.strip() == "pass 1 of 2"
