"""Load Video and Save Video: trimming by time, ping-pong, transparency, lengths, and warnings."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from media_toys import RATE, marked, numbers_of, ramp, time_of, timed_file
from videoldm.core.graph.schema import Blocked
from videoldm.core.media.files import AudioClip, VideoStream, open_video, read_audio, write_video
from videoldm.nodes.host.standalone.video import StandaloneVideo

LOAD, SAVE = "VideoLDM_LoadVideo", "VideoLDM_SaveVideo"


@pytest.fixture
def clip(toys, tmp_path):
    """3 s at 8 frames per second; frames encode their numbers, and the sound encodes the time."""
    path = tmp_path / "input" / "a.mov"
    write_video(path, [marked(range(24))], frame_rate=8, audio=AudioClip(ramp(3), RATE))
    return "a.mov"


@pytest.fixture
def told(toys, monkeypatch):
    sentences = []
    monkeypatch.setattr(toys, "warn", sentences.append)
    return sentences


def loaded(run, file: str, **given) -> dict:
    names = ("images", "frame_rate", "frames", "audio", "mask", "video")
    return dict(zip(names, run(LOAD, file=file, **given).values, strict=True))


def numbers(images: torch.Tensor) -> list[int]:
    return numbers_of(images.movedim(-1, 1) * 2 - 1)


def saved(tmp_path, prefix: str):
    (path,) = (tmp_path / "output").glob(f"{prefix}_*")
    return path


# Loading.


@pytest.mark.parametrize(
    ("given", "rate", "expected"),
    [
        ({"start_time": 1.0, "duration": 0.5}, 8, [8, 9, 10, 11]),
        ({"start_time": 1.06, "count": 2}, 8, [8, 9]),
        ({"force_rate": 4.0}, 4, list(range(0, 24, 2))),
        ({"force_rate": 16.0, "start": 3, "count": 4}, 16, [1, 2, 2, 3]),
        ({"force_rate": 4.0, "stride": 2, "duration": 1.5}, 2, [0, 4, 8]),
        ({"start": 20, "ping_pong": True}, 8, [20, 21, 22, 23, 22, 21]),
        ({"edit": {"trim": {"start_time": 0.25, "duration": 0.25}}}, 8, [2, 3]),
        ({"edit": {"trim": {"start_time": 0, "duration": 0}}, "count": 2}, 8, [0, 1]),
    ],
)
def test_images_and_video_are_the_frames_that_are_chosen(run, clip, given, rate, expected):
    found = loaded(run, clip, **given)
    assert numbers(found["images"]) == expected
    assert (found["frames"], found["frame_rate"]) == (len(expected), rate)
    assert found["mask"].shape == found["images"].shape[:3] and not found["mask"].any()
    stream = found["video"].stream
    assert numbers_of(stream.frames_tensor()) == expected
    waveform, sampled = found["audio"]["waveform"][0], found["audio"]["sample_rate"]
    assert waveform.shape[1] == round(len(expected) / rate * sampled)
    assert torch.equal(stream.audio().waveform, waveform)
    begin = 0.0 if "force_rate" in given and "start" not in given else expected[0] / 8
    begin = 3 / 16 if given.get("start") == 3 else begin
    assert abs(time_of(waveform[0, 0]) - begin) < 0.02


def test_a_crop_of_the_edit_is_cut_before_all_else(run, clip):
    crop = {"x": 8, "y": 0, "width": 24, "height": 16}
    assert loaded(run, clip, edit={"crop": crop})["images"].shape == (24, 16, 24, 3)
    assert loaded(run, clip, edit={"crop": {"width": 0, "height": 0}})["images"].shape[1:3] == (
        32, 48)  # fmt: skip


def test_the_video_alone_takes_no_memory_and_the_other_outputs_say_so(run, clip):
    found = loaded(run, clip, load="video only", start_time=1.0, duration=0.5)
    assert isinstance(found["images"], Blocked) and isinstance(found["mask"], Blocked)
    assert "load the video only" in found["images"].message
    assert numbers_of(found["video"].stream.frames_tensor()) == [8, 9, 10, 11]


def test_an_uneven_file_is_warned_of_and_keeps_its_speed_at_a_forced_rate(
    run, toys, told, tmp_path
):
    timed_file(tmp_path / "input" / "b.mp4", [0, 100, 200, 900, 1000, 1900], 100)
    loaded(run, "b.mp4")
    (sentence,) = told
    assert "variable frame rate (pictures of 100 to 900 ms)" in sentence
    assert numbers(loaded(run, "b.mp4", force_rate=5.0)["images"]) == [0, 2, 2, 2, 2, 4, 4, 4, 4, 4]
    assert len(told) == 1


def see_through(frames: int = 4) -> torch.Tensor:
    """Frames [t, 4, 32, 48]: grey, opaque in the left half and transparent in the right."""
    pixels = torch.zeros(frames, 4, 32, 48)
    pixels[:, 3] = 1
    pixels[:, 3, :, 24:] = -1
    return pixels


@pytest.mark.parametrize("format", ["webm", "mov (ProRes 4444)", "webp", "png"])
def test_transparency_goes_in_and_out(run, toys, told, tmp_path, format):
    images = (see_through().movedim(1, -1) + 1) / 2
    mask = 1 - images[..., 3]
    run(SAVE, images=images[..., :3], mask=mask, format=format, filename_prefix="mask")
    run(SAVE, images=images, format=format, filename_prefix="four")
    for prefix in ("mask", "four"):
        name = toys.folders.allow(saved(tmp_path, prefix))
        found = loaded(run, name, alpha="keep")
        torch.testing.assert_close(found["mask"], mask, atol=0.03, rtol=0)
        torch.testing.assert_close(
            found["images"][:, :, :20], images[:, :, :20, :3], atol=0.03, rtol=0
        )
        assert found["video"].stream.channels == 4
        black = loaded(run, name)
        assert black["images"][:, :, 28:].max() < 0.05 and not black["mask"].any()
    assert told == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"start": 2, "start_time": 1.0}, "start 2 and start_time 1 "),
        ({"count": 2, "duration": 1.0}, "count 2 and duration 1 "),
        ({"start_time": 3.0}, "lasts 3 s, so nothing is at start_time 3"),
        ({"start_time": 1.0, "edit": {"trim": {"start_time": 1}}}, "set only one of the two"),
        ({"alpha": "no"}, "alpha 'no' must be one of over black, keep"),
        ({"load": "no"}, "load 'no' must be one of frames, video only"),
    ],
)
def test_what_cannot_be_loaded_is_named(run, clip, given, words):
    with pytest.raises(ValueError, match=words):
        loaded(run, clip, **given)


# Saving.


def test_ping_pong_and_loops(run, told, tmp_path):
    images = ((marked(range(5)) + 1) / 2).movedim(1, -1)
    run(SAVE, images=images, format="apng", ping_pong=True, loop_count=3, frame_rate=8.0)
    path = saved(tmp_path, "video/VideoLDM")
    assert numbers_of(VideoStream.from_file(path).frames_tensor()) == [0, 1, 2, 3, 4, 3, 2, 1]
    assert told == []
    run(SAVE, images=images, loop_count=3, filename_prefix="b")
    assert told == ["mp4 files cannot say how often they play: loop_count has no effect"]
    assert not [one for one in (tmp_path / "output").iterdir() if "tmp" in one.name]


def sound(seconds: float) -> dict:
    return {"waveform": ramp(seconds)[None], "sample_rate": RATE}


@pytest.mark.parametrize(
    ("seconds", "length", "frames", "warned"),
    [
        (5.0, "as the frames", 16, True),
        (0.5, "as the frames", 16, False),
        (0.5, "as the shorter of both", 4, False),
        (5.0, "as the shorter of both", 16, True),
        (2.0, "as the frames", 16, False),
    ],
)
def test_frames_and_sound_end_together(run, told, tmp_path, seconds, length, frames, warned):
    images = torch.rand(16, 16, 16, 3)
    run(SAVE, images=images, audio=sound(seconds), audio_length=length, frame_rate=8.0)
    path = saved(tmp_path, "video/VideoLDM")
    assert open_video(path).frames == frames
    waveform, rate = read_audio(path)
    assert waveform.shape[1] == frames * rate // 8
    expected = [f"the audio lasts {seconds:g} s and the frames 2 s: what is beyond them is cut"]
    assert told == (expected if warned else [])


def test_losses_are_told(run, told):
    images = (see_through().movedim(1, -1) + 1) / 2
    run(SAVE, images=images, format="mp4", filename_prefix="a")
    run(SAVE, images=images, format="webp", audio=sound(1), filename_prefix="b")
    run(SAVE, images=images, format="mp4 (AV1)", filename_prefix="c")
    assert [one.split(":")[0] for one in told] == [
        "mp4 has no transparency", "webp carries no sound", "mp4 (AV1) has no transparency",
    ]  # fmt: skip


def test_a_mask_of_another_size_or_for_all_frames_is_fitted(run, toys, tmp_path):
    images = torch.rand(3, 32, 48, 3)
    run(SAVE, images=images, mask=torch.ones(16, 24), format="png", filename_prefix="one")
    name = toys.folders.allow(saved(tmp_path, "one"))
    assert loaded(run, name, alpha="keep")["mask"].min() == 1
    with pytest.raises(ValueError, match=r"a MASK for 3 frames must be \[3, height, width\]"):
        run(SAVE, images=images, mask=torch.ones(2, 32, 48), format="png", filename_prefix="two")


def test_filters_take_transparent_videos_over_black(run):
    video = StandaloneVideo(VideoStream.from_tensor(see_through(5), Fraction(8)))
    keys = torch.rand(2, 32, 48, 3)
    made = run("VideoLDM_KeyframeResidual", video=video, key_frames=keys, key_spacing=4)
    assert made.stream.frames_tensor().shape == (5, 3, 32, 48)


def test_the_upload_button_s_value_of_older_graphs_is_no_edit(run, clip):
    plain = loaded(run, clip)["images"]
    assert (loaded(run, clip, edit="image")["images"] == plain).all()
