"""Bad input of every sort through the command: one sentence with the node and both numbers, an exit
code, no traceback, and what was finished before is still there."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import signal
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from node_inputs import strategy
from safetensors.torch import load_file, safe_open, save_file
from videoldm.core.families.embedded import included
from videoldm.core.graph import current_call
from videoldm.core.media.files import open_video, write_video
from videoldm.nodes.headless import main
from videoldm.nodes.host.standalone import host

FRAMES, SIZE = 4, 16


def node(kind: str, **inputs) -> dict:
    return {"class_type": kind, "inputs": inputs}


def flow() -> dict:
    """Node 1 and 2 save a first clip; the others take a prompt through all of text to video."""
    clip = node("VideoLDM_LoadVideo", file="rendered: shapes", start=0, count=3, stride=1, width=0,
                height=0, fit="crop", multiple_of=8)  # fmt: skip
    sampler = node(
        "VideoLDM_VideoSampler", model=["5", 0], positive=["6", 0], negative=["7", 0], width=SIZE,
        height=SIZE, frames=FRAMES, steps=1, cfg=1.0, sampler_name="ddim", schedule="uniform",
        seed=1, guidance_rescale=0.0, **strategy(),
    )  # fmt: skip
    return {
        "1": clip,
        "2": save("first", images=["1", 0]),
        "3": node("VideoLDM_LoadImageModel", model="embedded"),
        "4": node("VideoLDM_LoadTemporalLayers", layers="embedded: text to video"),
        "5": node("VideoLDM_InjectTemporalLayers", model=["3", 0], layers=["4", 0], strength=1.0,
                  attention_strength=1.0, convolution_strength=1.0, sites=""),
        "6": node("CLIPTextEncode", clip=["3", 1], text="a red circle moves right"),
        "7": node("CLIPTextEncode", clip=["3", 1], text=""),
        "8": sampler,
        "9": node("VideoLDM_TemporalVAEDecodeToVideo", samples=["8", 0], vae=["3", 2],
                  frame_rate=8.0, chunk=2, tile=0),
        "10": save("second", video=["9", 0]),
    }  # fmt: skip


def save(prefix: str, **clip) -> dict:
    return node("VideoLDM_SaveVideo", filename_prefix=prefix, format="mp4", quality=18,
                frame_rate=8.0, **clip)  # fmt: skip


def sampling(kind: str, **inputs) -> dict:
    """One of the two nodes that resample a clip, with what both need."""
    common = {"positive": ["6", 0], "negative": ["7", 0], "steps": 1, "cfg": 1.0, "seed": 1,
              "sampler_name": "ddim", "schedule": "uniform"}  # fmt: skip
    return node(kind, **common, **inputs)


@pytest.fixture
def here(toy_family, tmp_path, monkeypatch):
    """An empty folder to run in, with the toy family as the embedded models."""
    monkeypatch.setattr(included, "WEIGHTS", toy_family)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VIDEOLDM_DEBUG", raising=False)
    for name in ("input", "models/videoldm", "models/checkpoints", "models/vae"):
        (tmp_path / name).mkdir(parents=True)
    before = host.folders, host.policy, host.embed_metadata
    yield tmp_path
    host.folders, host.policy, host.embed_metadata = before


@pytest.fixture
def complain(here, capsys):
    """complain(workflow, *arguments) runs it, which must fail; returns exit code and sentence."""

    def run(workflow, *arguments, file="workflow.json") -> tuple[int, str]:
        if workflow is not None:
            Path(file).write_text(workflow if isinstance(workflow, str) else json.dumps(workflow))
        code = main(["run", file, "--quiet", "--device", "cpu", *arguments])
        lines = capsys.readouterr().err.splitlines()
        # Stopping, keeping what was finished, and warnings are told in lines of their own.
        beside = ("kept the ", "stopping ", "videoldm: warning: ")
        said = [line for line in lines if not line.startswith(beside)]
        assert code != 0 and len(said) == 1, lines
        text = said[0].removeprefix("videoldm: ")
        assert text != said[0] and not re.search(r"\. [A-Z]|Traceback|Error:|\.$", text), text
        return code, text

    return run


def finished(here: Path) -> bool:
    """Tell whether the first clip is there, complete and playable."""
    path = here / "output" / "first_00001_.mp4"
    return path.is_file() and open_video(path).frames == 3


@contextmanager
def largest_file(size: int):
    """Let the system refuse to grow any file beyond `size` bytes, like a full disk."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_the_workflow_that_the_others_break_runs(here, capsys):
    Path("workflow.json").write_text(json.dumps(flow()))
    assert main(["run", "workflow.json", "--quiet", "--device", "cpu"]) == 0
    saved = ["output/first_00001_.mp4", "output/second_00001_.mp4"]
    assert capsys.readouterr().out.split() == saved
    assert open_video("output/second_00001_.mp4").frames == FRAMES


# What can be known before anything runs: nothing is written then.

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
        {"8.steps": 0}, 2, ["node 8", '"steps"', "1 to 1000", "given 0"],
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


def changed(workflow: dict, changes: dict) -> dict:
    """Apply {"8.steps": 0, "8.class_type": ...} to a workflow; None takes an input away, and a
    strategy those of another."""
    for place, value in changes.items():
        node_id, name = place.split(".", 1)
        if name == "strategy":
            inputs = workflow[node_id]["inputs"]
            for opened in [one for one in inputs if one.startswith("strategy.")]:
                del inputs[opened]
        target = workflow[node_id] if name == "class_type" else workflow[node_id]["inputs"]
        target.pop(name, None)
        if value is not None:
            target[name] = value
    return workflow


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
    "no workflow": ('{"a": 1}', 2, ["workflow.json", "no workflow", "'a'"]),
    "a list": ("[1, 2]", 2, ["workflow.json", "no workflow", "list"]),
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
    "out of range": ("8.steps=5000", ["node 8", '"steps"', "1 to 1000", "5000"]),
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


# What only shows while it runs: what was finished is kept.


def longer(**inputs) -> dict:
    return {f"8.{name}": value for name, value in inputs.items()}


UPSAMPLE = {
    "4": node("VideoLDM_LoadUpsampler", upsampler="embedded"),
    "6": node("CLIPTextEncode", clip=["4", 1], text=""),
    "7": node("CLIPTextEncode", clip=["4", 1], text=""),
    "8": sampling("VideoLDM_UpsampleVideo", model=["4", 0], images=["1", 0], noise_level=20,
                  chunk=4, overlap=4, tile=0, tile_overlap=8),
}  # fmt: skip
INTERPOLATE = {
    "1b": node("VideoLDM_LoadVideo", **{**flow()["1"]["inputs"], "count": 1}),
    "1c": node("VideoLDM_TemporalVAEEncode", images=["1b", 0], vae=["3", 2]),
    "4": node("VideoLDM_LoadTemporalLayers", layers="embedded: interpolation"),
    "8": sampling("VideoLDM_InterpolateFrames", model=["5", 0], latent=["1c", 0], passes=1,
                  context_guidance=1.0, window_keys=0, keep_keys=True),
}  # fmt: skip

DURING = {
    "a size the autoencoder cannot divide": (
        longer(width=18), ["node 8", "18x16", "divisible by 4"],
    ),
    "a model that cannot be told frames": (
        longer(frames=8, model=["3", 0], **strategy("prediction")),
        ["node 8", "cannot be given frames"],
    ),
    "one frame to interpolate": (INTERPOLATE, ["node 8", "1 frame", "at least 2"]),
    "more noise than the model knows": (
        {**UPSAMPLE, "8.chunk": 8, "8.noise_level": 900}, ["node 8", "900", "350"],
    ),
    "an image model to upsample with": (
        {**UPSAMPLE, "8.chunk": 8, "8.model": ["3", 0]}, ["node 8", "not an upsampler"],
    ),
}  # fmt: skip

# What a node's own numbers say: refused before anything runs.
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


def with_nodes(changes: dict) -> dict:
    """The workflow with whole nodes ("8") and single inputs ("8.steps") replaced."""
    nodes = {key: copy.deepcopy(value) for key, value in changes.items() if "." not in key}
    inputs = {key: value for key, value in changes.items() if "." in key}
    return changed(flow() | nodes, inputs)


@pytest.mark.parametrize("changes, said", DURING.values(), ids=DURING)
def test_a_failing_node_is_named_and_what_was_finished_stays(complain, here, changes, said):
    code, text = complain(with_nodes(changes))
    assert code == 1 and [one for one in said if one not in text] == [], text
    assert finished(here)


@pytest.mark.parametrize("changes, said", OF_ONE_NODE.values(), ids=OF_ONE_NODE)
def test_numbers_of_one_node_are_refused_before_anything_runs(complain, here, changes, said):
    code, text = complain(with_nodes(changes))
    assert code == 2 and [one for one in said if one not in text] == [], text
    assert not finished(here)


def broken_copy(source: Path, target: Path, how: str) -> None:
    """Copy a file with its end cut off, or with its first bytes overwritten."""
    content = source.read_bytes()
    cut = content[: len(content) // 2]
    target.write_bytes(cut if how == "truncated" else b"\xa5" * 64 + content[64:])


@pytest.mark.parametrize("how", ["truncated", "corrupt"])
@pytest.mark.parametrize("name", ["clip.mp4", "clip.webm", "clip.gif", "clip.png"])
def test_broken_media(complain, here, name, how):
    noise = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    if name.endswith("png"):
        from PIL import Image

        Image.effect_noise((64, 64), 80).save(here / name)
    else:
        write_video(here / name, [noise], frame_rate=8)
    broken_copy(here / name, here / "input" / name, how)
    workflow = flow()
    workflow["8"] = node("VideoLDM_LoadVideo", **flow()["1"]["inputs"] | {"count": 0, "file": name})
    workflow["9"] = save("third", images=["8", 0])
    del workflow["10"]
    code, text = complain(workflow)
    assert code == 1 and text.startswith("node 8 (VideoLDM_LoadVideo)") and name in text, text
    assert finished(here) and not list((here / "output").glob("third*"))


LOADERS = {
    "4.layers": ("text_to_video", "videoldm"),
    "3.model": ("image_model", "checkpoints"),
    "9.vae": ("temporal_decoder", "vae"),
}


@pytest.mark.parametrize("how", ["truncated", "corrupt", "of another part", "a pickle"])
@pytest.mark.parametrize("place", LOADERS)
def test_broken_weights(complain, here, toy_family, place, how):
    name, folder = LOADERS[place]
    target = here / "models" / folder / ("bad.ckpt" if how == "a pickle" else "bad.safetensors")
    source = toy_family / f"{name}.safetensors"
    if how == "of another part":
        shutil.copyfile(toy_family / "autoencoder.safetensors", target)
    elif how == "a pickle":
        target.write_bytes(b"cposix\nsystem\n(S'touch pwned'\ntR.")
    else:
        broken_copy(source, target, how)
    workflow = changed(flow(), {place: target.name})
    if place == "9.vae":
        workflow["8b"] = node("VideoLDM_LoadTemporalVAE", vae=target.name)
        workflow = changed(workflow, {"9.vae": ["8b", 0]})
    code, text = complain(workflow)
    assert code == 1 and target.name in text and re.match(r"node (3|4|8b) \(", text), text
    assert finished(here) and not (here / "pwned").exists()


def test_missing_embedded_weights_say_where_they_were_looked_for(complain, here, monkeypatch):
    monkeypatch.setattr(included, "WEIGHTS", here / "gone")
    code, text = complain(flow())
    assert code == 3 and text.startswith("node 3 (VideoLDM_LoadImageModel)") and "gone" in text
    assert finished(here)


def with_nan(source: Path, target: Path) -> None:
    with safe_open(source, framework="pt") as file:
        about = file.metadata()
    state = {key: torch.full_like(value, torch.nan) for key, value in load_file(source).items()}
    save_file(state, target, about)


def test_nan_in_latents_names_the_node_and_the_frames(complain, here, toy_family):
    with_nan(toy_family / "text_to_video.safetensors", here / "models/videoldm/nan.safetensors")
    code, text = complain(changed(flow(), {"4.layers": "nan.safetensors"}))
    assert code == 1 and re.match(r"node (8|9) \(VideoLDM_", text), text
    assert "not a number" in text and re.search(r"rame 0", text) and re.search(r"\d+ of \d+", text)
    assert finished(here) and not (here / "output" / "second_00001_.mp4").exists()


def test_a_full_disk_keeps_what_fits(complain, here, capsys):
    workflow = {key: flow()[key] for key in ("1", "2")}
    many = {**flow()["1"]["inputs"], "count": 0, "width": 128, "height": 128}
    workflow["3"] = node("VideoLDM_LoadVideo", **many)
    workflow["4"] = save("second", images=["3", 0])
    workflow["4"]["inputs"]["quality"] = 0
    with largest_file(30_000):
        code, text = complain(workflow)
    assert code == 1 and text.startswith("node 4 (VideoLDM_SaveVideo)"), text
    assert "second_00001_.mp4 cannot be written" in text and re.search(r"\d+ of \d+", text), text
    assert finished(here)


# Stopping is no bad input, but keeps what was finished in the same way.


@pytest.fixture
def stop_in(monkeypatch):
    """stop_in(class, n) sends SIGINT at the n-th report of progress by a node of that class."""

    def arrange(class_type: str, at: int) -> None:
        progress, seen = host.progress, []

        def counted(done: int, total: int, part=None) -> None:
            if current_call.get().class_type == class_type:
                seen.append(done)
                if len(seen) == at:
                    os.kill(os.getpid(), signal.SIGINT)
            progress(done, total, part)

        monkeypatch.setattr(host, "progress", counted)

    return arrange


def test_stopping_while_sampling_keeps_the_finished_chunks(complain, here, stop_in):
    stop_in("VideoLDM_VideoSampler", 3)
    settings = longer(frames=10, **strategy("prediction", window=4)) | {
        "4.layers": "embedded: prediction"
    }
    code, text = complain(changed(flow(), settings))
    assert code == 130 and "interrupted in node 8 (VideoLDM_VideoSampler)" in text
    assert finished(here)
    kept = load_file(here / "output" / "latents" / "unfinished_00001_.latent")["latent_tensor"]
    assert 4 <= kept.shape[0] < 10 and torch.isfinite(kept).all()


def test_stopping_while_saving_keeps_a_playable_part(complain, here, stop_in):
    stop_in("VideoLDM_SaveVideo", 2)
    code, text = complain(changed(flow(), longer(frames=10) | {"9.chunk": 2}))
    assert code == 130 and "node 10 (VideoLDM_SaveVideo)" in text
    assert finished(here) and not (here / "output" / "second_00001_.mp4").exists()
    assert 2 <= open_video(here / "output" / "second_00001_.partial.mp4").frames < 10
