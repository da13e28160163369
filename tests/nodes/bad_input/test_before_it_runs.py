"""Bad input that is found before anything runs gives one sentence with the node and both numbers,
an exit code and no traceback, and nothing is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from bad_flows import FRAMES, UPSAMPLE, changed, finished, flow, longer, node, with_nodes
from node_inputs import strategy
from videoldm.core.media.files import open_video, write_video
from videoldm.nodes.headless import main


def test_the_workflow_that_the_others_break_runs(here, capsys):
    Path("workflow.json").write_text(json.dumps(flow()))
    assert main(["run", "workflow.json", "--quiet", "--device", "cpu"]) == 0
    saved = ["output/first_00001_.mp4", "output/second_00001_.mp4"]
    assert capsys.readouterr().out.split() == saved
    assert open_video("output/second_00001_.mp4").frames == FRAMES


BEFORE = {
    "unknown node type": (
        {"8.class_type": "VideoLDM_VideoSampeler"}, 2,
        ["node 8 (VideoLDM_VideoSampeler)", "unknown type", 'did you mean "VideoLDM_VideoSampler"'],
    ),
    "wrong type on a wire": (
        {"9.samples": ["3", 2]}, 2,
        ["node 9", '"samples"', "expected LATENT, given VAE", "node 3 (VideoLDM_LoadImageModel)"],
    ),
    "wire from an output that is not there": (
        {"9.samples": ["8", 3]}, 2, ["node 9", '"samples"', "output 3", "node 8", "1 outputs"],
    ),
    "cycle": (
        {"5.model": ["5", 0]}, 2, ["cycle", "node 5"],
    ),
    "value out of its range": (
        {"8.steps": -1}, 2, ["node 8", '"steps"', "0 to 1000", "given -1"],
    ),
    "wrong type of a value": (
        {"8.frames": "many"}, 2, ["node 8", '"frames"', "expected a whole number", '"many"'],
    ),
    "missing input": (
        {"8.positive": None}, 2, ["node 8", '"positive"', "CONDITIONING"],
    ),
    "unknown input": (
        {"8.stepz": 4}, 2, ["node 8", '"stepz"', 'did you mean "steps"'],
    ),
    "an output name out of its folder": (
        {"10.filename_prefix": "../../escaped"}, 2,
        ["node 10", "../../escaped", "out of the folder"],
    ),
    "an output name that is too long": (
        {"10.filename_prefix": "a/" + 300 * "b"}, 2, ["node 10", "300 bytes", "at most 215"],
    ),
    "an output name with a control character": (
        {"10.filename_prefix": "a\tb"}, 2, ["node 10", "control character '\\t'"],
    ),
    "a missing file of another folder": (
        {"1.file": "holiday.mp4 [temp]"}, 3, ["node 1", '"file"', "temp folder output/temp"],
    ),
    "missing media file": (
        {"1.file": "holiday.mp4"}, 3, ["node 1", '"file"', '"holiday.mp4"', "input folder input"],
    ),
    "missing weights": (
        {"4.layers": "mine.safetensors"}, 3,
        ["node 4", '"layers"', '"mine.safetensors"', "models folder models"],
    ),
    "a path out of the input folder": (
        {"1.file": "../../etc/passwd"}, 2, ["node 1", '"file"', "../../etc/passwd"],
    ),
    "a path out of the models folder": (
        {"3.model": "/etc/passwd"}, 2, ["node 3", '"model"', "/etc/passwd"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("changes, code, said", BEFORE.values(), ids=BEFORE)
def test_what_is_wrong_with_a_workflow_is_said_before_it_runs(
    complain, capsys, here, changes, code, said
):
    found, text = complain(changed(flow(), changes))
    assert found == code and [one for one in said if one not in text] == [], text
    assert not (here / "output").exists()
    assert main(["validate", "workflow.json"]) == code
    assert said[0] in capsys.readouterr().err


FILES = {
    "no such file": (None, 3, ["workflow.json", "cannot be read", "no such file"]),
    "empty": ("", 2, ["workflow.json", "empty (0 bytes)"]),
    "not JSON": ("{'a': 1}", 2, ["workflow.json", "not valid JSON", "line 1 column 2"]),
    "no workflow": ('{"a": 1}', 2, ["workflow.json", "is not a workflow", "'a'"]),
    "a list": ("[1, 2]", 2, ["workflow.json", "is not a workflow", "list"]),
    "no nodes": ('{"nodes": [], "links": []}', 2, ["workflow.json", "0 nodes"]),
    "nothing to save": (
        {"3": node("VideoLDM_LoadImageModel", model="embedded")}, 2,
        ["none of the workflow's 1 nodes", "VideoLDM_SaveVideo"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("content, code, said", FILES.values(), ids=FILES)
def test_a_file_that_is_no_workflow(complain, content, code, said):
    found, text = complain(content)
    assert found == code and [one for one in said if one not in text] == [], text


def test_media_without_a_workflow(complain, here):
    from PIL import Image

    Image.new("RGB", (8, 8)).save("bare.png")
    write_video("bare.mp4", [torch.zeros(2, 3, 16, 16)], frame_rate=8)
    (here / "broken.mp4").write_bytes(b"\0\0\0\x20ftypisom" + b"\0" * 100)
    for file in ("bare.png", "bare.mp4"):
        code, text = complain(None, file=file)
        assert code == 2 and file in text and "carries no workflow" in text
    code, text = complain(None, file="broken.mp4")
    assert code == 2 and "broken.mp4 cannot be read as video" in text


SETTINGS = {
    "no value": ("8.steps", ["8.steps", "NODE.INPUT=VALUE"]),
    "no input": ("steps=4", ["steps=4", "NODE.INPUT=VALUE"]),
    "unknown node": ("VideoLDM_Sampler.steps=4", ["no node", "VideoLDM_Sampler", "10 nodes"]),
    "a name of two nodes": ("CLIPTextEncode.text=x", ["2 nodes", "6, 7"]),
    "unknown input": ("8.stepz=4", ["node 8", '"stepz"', 'did you mean "steps"']),
    "wrong value type": ("8.steps=few", ["node 8", '"steps"', "whole number", '"few"']),
    "out of range": ("8.steps=5000", ["node 8", '"steps"', "0 to 1000", "5000"]),
    "not a choice": ("8.sampler_name=dim", ["node 8", "one of", '"dim"', 'did you mean "ddim"']),
    "a wire": ("8.model=embedded", ["node 8", '"model"', "MODEL"]),
}


@pytest.mark.parametrize("setting, said", SETTINGS.values(), ids=SETTINGS)
def test_bad_settings(complain, here, setting, said):
    code, text = complain(flow(), "--set", setting)
    assert code == 2 and [one for one in said if one not in text] == [], text
    assert not (here / "output").exists()


def test_only_files_named_in_a_setting_may_lie_anywhere(here, complain):
    (here / "elsewhere").mkdir()
    clip = here / "elsewhere" / "clip.mp4"
    write_video(clip, [torch.zeros(3, 3, 16, 16)], frame_rate=8)
    small = {key: flow()[key] for key in ("1", "2")}
    code, text = complain(changed(small, {"1.file": str(clip)}))
    assert code == 3 and text.startswith('node 1 (VideoLDM_LoadVideo): input "file" expected one')
    Path("workflow.json").write_text(json.dumps({key: flow()[key] for key in ("1", "2")}))
    assert main(["run", "workflow.json", "--quiet", "--set", "1.file=elsewhere/clip.mp4"]) == 0
    assert finished(here)


@pytest.mark.parametrize("arguments, said", [
    (["--device", "cuda:99"], "cuda:99"),
    (["--device", "abacus"], "abacus"),
    (["--models", "nowhere"], "nowhere"),
    (["--seed", "-1"], "given -1"),
])  # fmt: skip
def test_bad_arguments(complain, monkeypatch, arguments, said):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, text = complain(flow(), *arguments)
    assert code in (2, 3) and said in text


def test_an_output_folder_that_cannot_be_written(complain, here):
    (here / "file").write_text("")
    code, text = complain(flow(), "--output", "file/folder")
    assert code == 2 and "file/folder" in text and "not a directory" in text


# Invalid values within one node, which are refused before anything runs.
OF_ONE_NODE = {
    "overlap not below the window": (
        longer(frames=8, **strategy("sliding windows", window=4, overlap=4)),
        ["node 8", "overlap 4", "window 4"],
    ),
    "more frames first than there are": (
        longer(frames=8, **strategy("sparse first", first_frames=9)),
        ["node 8", "first_frames 9", "frames 8"],
    ),
    "hierarchical without its model": (
        longer(frames=9, **strategy("hierarchical")) | {"4.layers": "embedded: prediction"},
        ["node 8", "interpolation_model"],
    ),
    "video to video without a video": (
        longer(**strategy("video to video")), ["node 8", "strategy.latent", "is missing"],
    ),
    "more frames than a clip has": (
        {"1.count": 90}, ["node 1", "90 frames", "61"],
    ),
    "chunk not above the overlap": (UPSAMPLE, ["node 8", "overlap 4", "chunk 4"]),
    "sites that there are not": (
        {"5.sites": "cellar.0=0.5"}, ["node 5", "cellar.0"],
    ),
    "both a video and images to save": (
        {"10.images": ["1", 0]}, ["node 10", "exactly 1", "both"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("changes, said", OF_ONE_NODE.values(), ids=OF_ONE_NODE)
def test_numbers_of_one_node_are_refused_before_anything_runs(complain, here, changes, said):
    code, text = complain(with_nodes(changes))
    assert code == 2 and [one for one in said if one not in text] == [], text
    assert not finished(here)
