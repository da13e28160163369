"""Errors that only show while a workflow runs give one sentence that names the node and no
traceback, and finished outputs are kept."""

from __future__ import annotations

import os
import re
import shutil
import signal
from pathlib import Path

import pytest
import torch
from bad_flows import UPSAMPLE, changed, finished, flow, longer, node, sampling, save, with_nodes
from media_toys import largest_file
from node_inputs import strategy
from safetensors.torch import load_file, safe_open, save_file
from videoldm.core.families.embedded import included
from videoldm.core.graph import current_call
from videoldm.core.media.files import open_video, write_video
from videoldm.nodes.host.standalone import host

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


@pytest.mark.parametrize("changes, said", DURING.values(), ids=DURING)
def test_a_failing_node_is_named_and_what_was_finished_stays(complain, here, changes, said):
    code, text = complain(with_nodes(changes))
    assert code == 1 and [one for one in said if one not in text] == [], text
    assert finished(here)


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


# Stopping is not bad input, but keeps finished work in the same way.


@pytest.fixture
def stop_in(monkeypatch):
    """stop_in(class_type, n) sends SIGINT at the n-th progress report of a node of that class."""

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
