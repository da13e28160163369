"""Sound is loaded from files as AUDIO and saved with the frames; videos keep their frame rate."""

from __future__ import annotations

import sys
from fractions import Fraction

import pytest
import torch
from videoldm.core.media.files import AudioClip, VideoStream, open_video, read_audio, write_video
from videoldm.nodes.host.standalone.video import StandaloneVideo

RATE = 16_000
LOAD, SAVE = "VideoLDM_LoadVideo", "VideoLDM_SaveVideo"


def steps(seconds: float) -> torch.Tensor:
    """Sound [1, samples] whose level encodes the second: 0.1, 0.2, and so on."""
    return (torch.arange(int(seconds * RATE)) // RATE + 1).float()[None] / 10


def seconds_of(waveform: torch.Tensor) -> list[int]:
    return [round(10 * float(level)) for level in waveform[0, RATE // 2 :: RATE]]


@pytest.fixture
def clip(toys, tmp_path):
    """Six seconds at 4 frames per second."""
    path = tmp_path / "input" / "a.mp4"
    frames = torch.rand(24, 3, 16, 16) * 2 - 1
    write_video(path, [frames], frame_rate=4, audio=AudioClip(steps(6), RATE))
    return path


@pytest.fixture
def told(toys, monkeypatch):
    sentences = []
    monkeypatch.setattr(toys, "warn", sentences.append)
    return sentences


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({}, [1, 2, 3, 4, 5, 6]),
        ({"start": 8}, [3, 4, 5, 6]),
        ({"start": 4, "count": 12}, [2, 3, 4]),
        ({"start": 4, "count": 4, "stride": 3}, [2, 3, 4]),
    ],
)
def test_load_video_gives_the_sound_of_the_frames(run, clip, request_, expected):
    images, rate, frames, audio, *_ = run(LOAD, file="a.mp4", **request_).values
    waveform = audio["waveform"]
    assert audio["sample_rate"] == RATE and waveform.dtype == torch.float32
    assert waveform.shape == (1, 1, round(frames / rate * RATE)) and len(images) == frames
    assert seconds_of(waveform[0]) == expected


def test_sound_goes_through_load_and_save(run, clip, tmp_path):
    images, rate, _, audio, *_ = run(LOAD, file="a.mp4", start=4, count=8).values
    run(SAVE, images=images, frame_rate=rate, audio=audio, filename_prefix="copy")
    (copy,) = (tmp_path / "output").glob("copy*.mp4")
    assert open_video(copy).frames == 8
    assert seconds_of(read_audio(copy).waveform) == [2, 3]


def test_audio_that_is_connected_replaces_the_sound_of_a_video(run, toys, clip, tmp_path):
    video = StandaloneVideo(VideoStream.from_file(clip))
    other = {"waveform": steps(6).flip(1)[None], "sample_rate": RATE}
    for name, sound in (("own", {}), ("other", {"audio": other})):
        run(SAVE, video=video, frame_rate=4.0, filename_prefix=name, **sound)
        (saved,) = (tmp_path / "output").glob(f"{name}*.mp4")
        expected = [1, 2, 3, 4, 5, 6] if name == "own" else [6, 5, 4, 3, 2, 1]
        assert seconds_of(read_audio(saved).waveform) == expected


def test_core_s_nodes_carry_the_same_sound(run, clip):
    video = StandaloneVideo(VideoStream.from_file(clip))
    images, audio, rate, *_ = run("GetVideoComponents", video=video).values
    assert seconds_of(audio["waveform"][0]) == [1, 2, 3, 4, 5, 6]
    made = run("CreateVideo", images=images, fps=rate, audio=audio)
    assert torch.equal(made.get_components().audio["waveform"], audio["waveform"])


def test_files_without_sound_give_none(run, toys, tmp_path):
    write_video(tmp_path / "input" / "b.mp4", [torch.zeros(3, 3, 16, 16)], frame_rate=4)
    images, rate, _, audio, *_ = run(LOAD, file="b.mp4").values
    assert audio is None
    run(SAVE, images=images, frame_rate=rate, audio=audio, filename_prefix="silent")


def test_pictures_are_loaded_without_sound_that_cannot_be_decoded(run, clip, told, monkeypatch):
    def broken(*_, **__):
        raise ValueError("the sound of a.mp4 cannot be decoded: invalid data")

    monkeypatch.setattr("videoldm.core.media.stream.sound_of", broken)
    images, _, _, audio, *_ = run(LOAD, file="a.mp4").values
    assert len(images) == 24 and audio is None
    assert told == ["the sound of a.mp4 cannot be decoded: invalid data; the pictures are loaded "
                    "without it"]  # fmt: skip


@pytest.mark.parametrize("format", ["gif", "png"])
def test_formats_without_sound_say_so(run, told, format, tmp_path):
    audio = {"waveform": steps(1)[None], "sample_rate": RATE}
    run(SAVE, images=torch.rand(4, 16, 16, 3), frame_rate=4.0, format=format, audio=audio)
    assert told == [f"{format} carries no sound: the connected audio is left out"]


@pytest.mark.parametrize(
    ("audio", "words"),
    [
        ({"waveform": torch.zeros(2, 1, 9), "sample_rate": 8000}, r"shape \[2, 1, 9\]"),
        ({"waveform": torch.zeros(1, 9), "sample_rate": 8000}, r"shape \[1, 9\]"),
        ({"waveform": torch.full((1, 1, 9), torch.nan), "sample_rate": 8000}, "sound hold NaN"),
        ({"sample_rate": 8000}, r"shape \[\]"),
        ({"waveform": torch.zeros(1, 1, 9)}, "0 samples per second"),
    ],
)
def test_what_is_no_sound_is_refused(run, audio, words):
    with pytest.raises(ValueError, match=words):
        run(SAVE, images=torch.rand(2, 16, 16, 3), audio=audio)


# Rates.


@pytest.mark.parametrize("given", [4.0, 24.0])
def test_a_video_keeps_its_rate_and_another_number_is_answered(run, clip, told, given, tmp_path):
    video = StandaloneVideo(VideoStream.from_file(clip))
    run(SAVE, video=video, frame_rate=given, filename_prefix="copy")
    (copy,) = (tmp_path / "output").glob("copy*.mp4")
    assert open_video(copy).frame_rate == 4
    words = ["frame_rate 24 is for images and has no effect here: the video keeps its own 4 frames "
             "per second"]  # fmt: skip
    assert told == (words if given == 24 else [])


def test_a_rate_that_was_wired_from_the_video_is_no_other_one(run, told, tmp_path):
    rate = Fraction(30000, 1001)
    video = StandaloneVideo(VideoStream.from_tensor(torch.zeros(2, 3, 16, 16), rate))
    for given in (float(rate), 29.97):
        run("VideoLDM_PreviewVideo", video=video, frame_rate=given)
    assert told == []


def test_a_clip_that_does_not_fit_into_memory_is_refused_before_it_is_decoded(
    run, toys, tmp_path, monkeypatch
):
    write_video(tmp_path / "input" / "b.mp4", [torch.zeros(3, 3, 64, 64)], frame_rate=4)
    module = sys.modules[type(toys).__module__]
    monkeypatch.setattr(module, "free_memory", lambda device: 100_000)
    with pytest.raises(ValueError, match="loading 3 frames of 64x64 takes about 1 MB of memory"):
        run(LOAD, file="b.mp4")
    run(LOAD, file="b.mp4", count=1)
