"""`videoldm plan` draws the noise levels of every strategy."""

import json
import math
from pathlib import Path

import pytest
from PIL import Image
from videoldm.nodes.choices import STRATEGIES
from videoldm.nodes.headless import main

WORKFLOWS = Path(__file__).parents[2] / "workflows"
SMALL = ["--frames", "20", "--steps", "8", "--window", "8"]


@pytest.mark.parametrize("strategy", [one for one in STRATEGIES if one != "sparse first"])
def test_the_plan_of_every_strategy_is_drawn(strategy, tmp_path, capsys):
    path, command = tmp_path / "plan.png", ["plan", "--strategy", strategy, *SMALL]
    assert main([*command, "--output", str(path)]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{strategy}: 20 frames in ")
    assert main([*command, "--json"]) == 0
    levels = json.loads(capsys.readouterr().out)["levels"]
    every = math.ceil(len(levels) / 40)  # at most 40 lines are printed
    shades = dict(zip(sorted(set(sum(levels, []))), " :-=+*#%@", strict=True))
    assert lines == ["".join(shades[level] for level in row) for row in levels[::every]]
    with Image.open(path) as image:
        assert image.width % 20 == 0 and image.height > 8


def test_levels_as_json(capsys):
    assert main(["plan", "--strategy", "rolling", *SMALL, "--no-lookahead", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["frames"], found["rows"], found["evaluations"]) == (20, 20, 20 * 8 + 8 * 8)
    assert found["levels"][-1] == [0.0] * 20 and found["levels"][0][0] > 0


def test_the_sampler_of_a_workflow_is_drawn(capsys):
    assert main(["plan", str(WORKFLOWS / "long_video.json")]) == 0
    told = capsys.readouterr().out
    assert told.startswith("node ") and "241 frames in 300 rows, at most 17 together" in told


def test_steps_that_are_left_to_the_model_are_the_usual_ones(tmp_path, capsys):
    flow = json.loads((WORKFLOWS / "long_video.json").read_text())
    sampler = next(n for n in flow["nodes"] if n["type"] == "VideoLDM_VideoSampler")
    assert sampler["widgets_values_named"]["steps"] == 15
    sampler["widgets_values_named"]["steps"] = 0
    (tmp_path / "flow.json").write_text(json.dumps(flow))
    assert main(["plan", str(tmp_path / "flow.json")]) == 0
    assert "241 frames in 500 rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--strategy", "sparse first"], "a step back up"),
        (["--strategy", "rolling", "--steps", "4"], "take at least 16 steps"),
        (["--strategy", "sliding windows", "--overlap", "16"], "must be smaller than window 16"),
        ([str(WORKFLOWS / "upscale_video.json")], "has no Video Sampler"),
        ([str(WORKFLOWS / "animatediff_long.json")], "frames comes from another node"),
    ],
)
def test_what_cannot_be_drawn_is_said(arguments, words, capsys):
    assert main(["plan", *arguments]) != 0
    told = capsys.readouterr().err
    assert words in told and told.count("\n") == 1
