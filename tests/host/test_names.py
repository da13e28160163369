"""File names in ComfyUI: inputs of any folder, prefixes, and the file of a cancelled save."""

from __future__ import annotations

import time

import pytest
import torch
from comfyui_server import Listener, RunFailed
from videoldm.core.media.files import open_video, write_video

LOAD = {"start": 0, "count": 3, "stride": 1, "width": 0, "height": 0, "fit": "crop",
        "multiple_of": 8}  # fmt: skip


def prompt(file: str, prefix: str = "names/x", **load) -> dict:
    save = {"images": ["1", 0], "filename_prefix": prefix, "format": "mp4", "quality": 18,
            "frame_rate": 8.0}  # fmt: skip
    return {
        "1": {"class_type": "VideoLDM_LoadVideo", "inputs": {**LOAD, "file": file, **load}},
        "2": {"class_type": "VideoLDM_SaveVideo", "inputs": save},
    }


@pytest.mark.parametrize("name, place", [
    ("clipspace/in.mp4 [input]", "input/clipspace/in.mp4"),
    ("clipspace\\in.mp4", "input/clipspace/in.mp4"),
    ("out.mp4 [output]", "output/out.mp4"),
    ("sub/tmp.mp4 [temp]", "temp/sub/tmp.mp4"),
])  # fmt: skip
def test_videos_of_any_folder_are_loaded(comfyui, name, place):
    write_video(comfyui.base / place, [torch.zeros(3, 3, 16, 16)], frame_rate=8)
    (saved,) = comfyui.files(comfyui.run(prompt(name)))
    assert open_video(saved).frames == 3


@pytest.mark.parametrize("change, words", [
    ({"file": "no.mp4 [output]"}, "there is no file 'no.mp4' in the output folder"),
    ({"file": "../secret.mp4"}, "leads out of the folder"),
    ({"prefix": "../x"}, "leads out of the folder"),
    ({"prefix": "x" * 300}, "300 bytes, at most 215"),
    ({"prefix": "a\u0001b"}, "control character"),
])  # fmt: skip
def test_names_that_cannot_be_are_refused_before_anything_runs(comfyui, change, words):
    with pytest.raises(RunFailed, match=words) as refused:
        comfyui.queue(prompt(**{"file": "rendered: shapes", **change}))
    assert "prompt_outputs_failed_validation" in str(refused.value)


def test_prefixes_are_filled_in_and_no_file_is_replaced(comfyui):
    prefix = "names/%VideoLDM_LoadVideo.count%\\%date:yy%_%width%"
    folder = comfyui.base / "output" / "names" / "3"
    stem = f"{time.strftime('%y')}_64"
    (first,) = comfyui.files(comfyui.run(prompt("rendered: shapes", prefix)))
    (folder / f"{stem}_00002_.partial.mp4").write_bytes(b"of another run")
    (second,) = comfyui.files(comfyui.run(prompt("rendered: shapes", prefix, start=1)))
    assert [first, second] == [folder / f"{stem}_0000{n}_.mp4" for n in (1, 3)]


@pytest.mark.parametrize("class_type", ["VideoLDM_SaveVideo", "SaveVideo"])
def test_cancelling_a_save_keeps_what_was_finished_and_says_where(comfyui, class_type):
    """The first frames are written while the others are still being decoded."""
    flow = {
        "3": {"class_type": "VideoLDM_LoadTemporalVAE", "inputs": {
            "vae": "toy/temporal_decoder.safetensors"}},
        "4": {"class_type": "EmptyLatentImage", "inputs": {
            "width": 512, "height": 512, "batch_size": 61}},
        "5": {"class_type": "VideoLDM_TemporalVAEDecodeToVideo", "inputs": {
            "samples": ["4", 0], "vae": ["3", 0], "frame_rate": 8.0, "chunk": 2}},
        "2": {"class_type": class_type, "inputs": {
            "video": ["5", 0], "filename_prefix": f"cancel/{class_type}", "format": "mp4"}},
    }  # fmt: skip
    listener = Listener(comfyui)
    run = comfyui.queue(comfyui.filled(flow), client=listener.client)
    folder, until = comfyui.base / "output" / "cancel", time.monotonic() + 120
    while time.monotonic() < until and not _saving(listener):
        time.sleep(0.02)
    comfyui.post("/interrupt", {})
    with pytest.raises(RunFailed, match="interrupted"):
        comfyui.wait(run, within=60)
    listener.close()
    (left,) = folder.glob(f"{class_type}_*")
    assert 2 <= open_video(left).frames < 61 and ".partial" in left.name
    told = [one["data"]["text"] for one in _messages(listener) if one["type"] == "videoldm.warning"]
    assert told[-1] == f"kept the frames so far in {left}"


def _messages(listener: Listener) -> list[dict]:
    return [one for one in listener.messages if isinstance(one, dict)]


def _saving(listener: Listener) -> bool:
    """Whether two chunks have been decoded, so that the first is already in the file."""
    return any(one["type"] == "progress" and one["data"]["node"] == "2" and
               4 <= one["data"]["value"] < 61 for one in _messages(listener))  # fmt: skip
