"""Media in ComfyUI: sound between its nodes and ours, containers, 16-bit images, and previews."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from comfyui_server import Listener, RunFailed
from PIL import Image
from videoldm.core.media.files import (
    AudioClip,
    VideoStream,
    open_video,
    read_audio,
    write_video,
)
from videoldm.nodes.host.standalone.images import load_image

RATE = 16_000


def prompt(**nodes: tuple[str, dict]) -> dict:
    """A prompt in API form; names are ids with the prefix n."""
    return {name[1:]: {"class_type": kind, "inputs": inputs}
            for name, (kind, inputs) in nodes.items()}  # fmt: skip


def clip(path):
    """Four seconds at 4 frames per second; the level of the sound encodes the second."""
    level = (torch.arange(4 * RATE) // RATE + 1).float()[None] / 10
    frames = torch.rand(16, 3, 32, 32) * 2 - 1
    return write_video(path, [frames], frame_rate=4, audio=AudioClip(level, RATE)).path


def seconds_of(path) -> list[int]:
    waveform = read_audio(path).waveform
    return [round(10 * float(level)) for level in waveform[0, RATE // 2 :: RATE]]


def save(prefix: str, **given):
    return ("VideoLDM_SaveVideo", {"filename_prefix": prefix, "format": "mp4", "quality": 18,
                                   "frame_rate": 4.0} | given)  # fmt: skip


def test_sound_goes_between_core_s_nodes_and_ours(comfyui):
    clip(comfyui.base / "input" / "sound.mp4")
    ours = {"file": "sound.mp4", "start": 4, "count": 8, "stride": 1, "width": 0, "height": 0,
            "fit": "crop", "multiple_of": 8}  # fmt: skip
    history = comfyui.run(prompt(
        n1=("VideoLDM_LoadVideo", ours),
        n2=save("ours", images=["1", 0], audio=["1", 3]),
        n3=("CreateVideo", {"images": ["1", 0], "fps": ["1", 1], "audio": ["1", 3]}),
        n4=("SaveVideo", {"video": ["3", 0], "filename_prefix": "core", "format": "mp4",
                          "format.codec": "h264"}),
        n5=save("created", video=["3", 0]),
        n6=("LoadVideo", {"file": "sound.mp4"}),
        n7=save("whole", video=["6", 0], frame_rate=24.0),
        n8=("GetVideoComponents", {"video": ["6", 0]}),
        n9=save("parts", images=["8", 0], audio=["8", 1]),
        n10=("SaveAudio", {"audio": ["1", 3], "filename_prefix": "audio"}),
    ))  # fmt: skip
    shown = {node: comfyui.files({"outputs": {node: history["outputs"][node]}})[0]
             for node in ("2", "4", "5", "7", "9")}  # fmt: skip
    assert history["outputs"]["10"]["audio"]
    for node in ("2", "4", "5"):
        assert open_video(shown[node]).frames == 8 and seconds_of(shown[node]) == [2, 3]
    for node in ("7", "9"):
        assert open_video(shown[node]).frames == 16 and seconds_of(shown[node]) == [1, 2, 3, 4]
    assert open_video(shown["7"]).frame_rate == 4
    assert "the video keeps its own 4 frames per second" in comfyui.log


def test_the_same_containers_are_offered_and_read(comfyui):
    for name in ("a.ts", "b.mpg", "c.flv", "d.wmv", "e.m4v"):
        (comfyui.base / "input" / name).write_bytes(b"")
    spec = comfyui.get("/object_info/VideoLDM_LoadVideo")["VideoLDM_LoadVideo"]["input"]["required"]
    offered = spec["file"][1]["options"] if spec["file"][0] == "COMBO" else spec["file"][0]
    assert {"a.ts", "b.mpg", "c.flv", "d.wmv", "e.m4v"} <= set(offered)


def test_deep_images_are_as_core_loads_them(comfyui):
    ramp = np.linspace(0, 65535, 64).round().astype(np.uint16)[None].repeat(16, 0)
    path = comfyui.base / "input" / "deep.png"
    Image.fromarray(ramp).save(path)
    history = comfyui.run(prompt(
        n1=("LoadImage", {"image": "deep.png"}),
        n2=("SaveImage", {"images": ["1", 0], "filename_prefix": "deep"}),
    ))  # fmt: skip
    (saved,) = comfyui.files(history)
    core, ours = load_image(saved)[0], load_image(path)[0]
    assert (core - ours).abs().max() <= 1 / 255 and ours.max() == 1


def load(**given):
    whole = {"start": 0, "count": 0, "stride": 1, "width": 0, "height": 0}
    more = {"file": "sound.mp4", "fit": "crop", "multiple_of": 8}
    return ("VideoLDM_LoadVideo", whole | more | given)


def test_a_part_by_time_goes_lazily_into_every_format(comfyui):
    """From the output video only, at another frame rate, with ping-pong."""
    clip(comfyui.base / "input" / "sound.mp4")
    formats = ("mp4", "mp4 (H.265)", "webm (AV1)", "mov (ProRes 4444)", "webp", "apng", "gif")
    nodes = {f"n{n}": save(f"part{n}", format=one, video=["1", 5], frame_rate=8.0)
             for n, one in enumerate(formats, start=2)}  # fmt: skip
    part = load(force_rate=8.0, start_time=1.0, duration=1.0, load="video only", ping_pong=True)
    history = comfyui.run(prompt(n1=part, **nodes))
    for node in range(2, 2 + len(formats)):
        output = history["outputs"][str(node)]
        (path,) = comfyui.files({"outputs": {str(node): output}})
        info = open_video(path)
        assert (info.frames, info.frame_rate) == (14, 8), path
        if node < 6:
            assert read_audio(path).waveform.shape[1] == round(
                14 / 8 * read_audio(path).sample_rate
            )
    assert not list((comfyui.base / "output").glob("tmp*"))


def test_images_that_were_not_loaded_say_why(comfyui):
    clip(comfyui.base / "input" / "sound.mp4")
    listener = Listener(comfyui)
    graph = prompt(n1=load(load="video only"), n2=save("no", images=["1", 0]))
    history = comfyui.wait(comfyui.queue(graph, client=listener.client))
    listener.close()
    assert "2" not in history["outputs"]
    assert "set to load the video only" in str(listener.messages)


def test_wrong_times_are_refused_when_a_prompt_is_queued(comfyui):
    clip(comfyui.base / "input" / "sound.mp4")
    with pytest.raises(RunFailed, match="start 3 and start_time 1 say the same"):
        comfyui.queue(prompt(n1=load(start=3, start_time=1.0), n2=save("no", images=["1", 0])))


def previewed(comfyui, history, node: str = "1"):
    """The file in which Load Video shows what it loaded, or None."""
    if node not in history["outputs"]:
        return None
    output = history["outputs"][node]
    (shown,) = output["images"]
    assert shown["type"] == "temp" and output["animated"] == [True]
    return comfyui.base / "temp" / shown["subfolder"] / shown["filename"]


def pictures(path):
    return VideoStream.from_file(path).frames_tensor()


@pytest.mark.parametrize("how", ["frames", "video only"])
def test_the_preview_is_what_was_loaded(comfyui, how):
    """The preview has the same frames, rate and sound, for every kind of selection."""
    whole = pictures(clip(comfyui.base / "input" / "sound.mp4"))
    back = [*range(6), *range(4, 0, -1)]
    trimmed = {"trim": {"start_time": 1, "duration": 2}}
    for given, indices, rate in (
        ({"start": 3, "count": 5}, range(3, 8), 4),
        ({"stride": 3}, range(0, 16, 3), 4 / 3),
        ({"force_rate": 8.0, "start_time": 3.0}, [k // 2 for k in range(24, 32)], 8),
        ({"duration": 1.5, "ping_pong": True}, back, 4),
        ({"edit": trimmed}, range(4, 12), 4),
    ):
        history = comfyui.run(prompt(
            n1=load(load=how, **given), n2=save("loaded", video=["1", 5])
        ))  # fmt: skip
        path = previewed(comfyui, history)
        shown = pictures(path)
        assert float(open_video(path).frame_rate) == pytest.approx(rate, rel=1e-3), given
        assert len(shown) == len(indices), given
        distances = [(whole - frame).abs().mean((1, 2, 3)) for frame in shown]
        assert [int(one.argmin()) for one in distances] == list(indices), given
        (saved,) = comfyui.files(history)
        assert (pictures(saved) - shown).abs().mean() < 0.1, given
        assert seconds_of(path) == seconds_of(saved), given


def test_what_is_rendered_is_previewed_and_a_whole_file_is_not(comfyui):
    clip(comfyui.base / "input" / "sound.mp4")
    history = comfyui.run(prompt(
        n1=load(), n2=save("whole", video=["1", 5]),
        n3=load(file="rendered: shapes", stride=4), n4=save("rendered", video=["3", 5]),
        n5=load(width=16, height=16), n6=save("small", video=["5", 5]),
    ))  # fmt: skip
    assert previewed(comfyui, history) is None and previewed(comfyui, history, "5") is None
    info = open_video(previewed(comfyui, history, "3"))
    assert (info.frames, info.width, info.height) == (16, 64, 64)
