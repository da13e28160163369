"""Sound of files: channel layouts, timing, and the length of the frames."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from videoldm.core.media.files import AudioClip, VideoStream, read_audio, write_video

RATE = 16_000
LEVEL = 0.25
# Channel levels after mixing down: a channel folded into others is 3 dB quieter, 4.0's back 6 dB.
SHARED = LEVEL * 2**-0.5
LAYOUTS = {
    "mono": [LEVEL],
    "stereo": [LEVEL] * 2,
    "3.0": [LEVEL + SHARED] * 2,
    "4.0": [LEVEL + SHARED + LEVEL / 2] * 2,
    "quad": [LEVEL + SHARED] * 2,
    "5.0": [LEVEL, LEVEL, LEVEL, 0, LEVEL, LEVEL],
    "5.1": [LEVEL] * 6,
    "5.1(side)": [LEVEL] * 6,
    "6.1": [*[LEVEL] * 4, LEVEL + SHARED, LEVEL + SHARED],
    "7.1": [*[LEVEL] * 4, LEVEL + SHARED, LEVEL + SHARED],
    "16 channels": [LEVEL],
}


def write_clip(
    path: Path, samples: np.ndarray, layout: str = "mono", *, picture: int = 0, sound: int = 0
) -> Path:
    """One second of frames at 8 per second from frame `picture` on, and sound [samples, channels]
    from sample `sound` on."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=8, options={"bf": "0"})
        video.width = video.height = 32
        video.pix_fmt = "yuv420p"
        track = container.add_stream("pcm_s16le", rate=RATE, layout=layout)
        for number in range(8):
            image = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            image.pts, image.time_base = picture + number, Fraction(1, 8)
            container.mux(video.encode(image))
        whole = (samples * 32768).round().astype(np.int16).reshape(1, -1)
        block = av.AudioFrame.from_ndarray(whole, format="s16", layout=layout)
        block.sample_rate, block.pts, block.time_base = RATE, sound, Fraction(1, RATE)
        for stream, frame in ((track, block), (track, None), (video, None)):
            container.mux(stream.encode(frame))
    return path


def steps(count: int) -> np.ndarray:
    """Mono samples whose level tells the eighth of a second they belong to."""
    return (np.arange(count) // (RATE // 8) + 1)[:, None] / 32


def eighths(sound: AudioClip) -> list[int]:
    """The number of each eighth of a second, taken in its middle; 0 is silence."""
    middles = sound.waveform[0, RATE // 16 :: RATE // 8]
    return [round(32 * float(level)) for level in middles]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_kept_or_mixed_down_and_can_be_saved(tmp_path, layout):
    channels = av.AudioLayout(layout).nb_channels
    path = write_clip(tmp_path / "a.mov", np.full((RATE, channels), LEVEL), layout)
    sound = read_audio(path)
    means = sound.waveform[:, 1000:-1000].mean(1).tolist()
    assert means == pytest.approx(LAYOUTS[layout], abs=1e-3)
    for suffix in ("mp4", "webm"):
        saved = tmp_path / f"b.{suffix}"
        VideoStream.from_file(path).save(saved)
        kept = read_audio(saved).waveform
        assert kept.shape[0] == len(means) and abs(kept.shape[1] / read_audio(saved)[1] - 1) < 0.01


@pytest.mark.parametrize("format", ["mp4", "webm"])
@pytest.mark.parametrize(
    ("channels", "kept"),
    [(1, 1), (2, 2), (3, 2), (4, 2), (5, 6), (6, 6), (7, 6), (8, 6), (9, 1), (24, 1)],
)
def test_sound_in_memory_with_any_number_of_channels_is_saved(tmp_path, channels, kept, format):
    tone = torch.sin(torch.arange(48_000) * (2 * torch.pi * 440 / 48_000)).mul(0.1)
    path = tmp_path / f"a.{format}"
    sound = AudioClip(tone.repeat(channels, 1), 48_000)
    write_video(path, [torch.zeros(8, 3, 32, 32)], frame_rate=8, audio=sound)
    waveform = read_audio(path).waveform
    assert waveform.shape == (kept, 48_000)
    peak = torch.fft.rfft(waveform[0, 4800:-4800]).abs().argmax()
    assert abs(int(peak) * 48_000 / (48_000 - 9600) - 440) < 3


def test_what_would_clip_when_it_is_mixed_becomes_quieter(tmp_path):
    path = write_clip(tmp_path / "a.mov", np.full((RATE, 4), 0.9), "quad")
    assert read_audio(path).waveform.max() == pytest.approx(1.0)


@pytest.mark.parametrize("rate", [7_000, 22_050, 44_056, 192_000])
def test_rates_that_no_encoder_has_are_resampled(tmp_path, rate):
    tone = torch.sin(torch.arange(rate) * (2 * torch.pi * 440 / rate)).mul(0.5)[None]
    path = tmp_path / "a.mp4"
    write_video(path, [torch.zeros(8, 3, 32, 32)], frame_rate=8, audio=AudioClip(tone, rate))
    sound = read_audio(path)
    assert sound.waveform.shape[1] == sound.sample_rate
    peak = int(torch.fft.rfft(sound.waveform[0]).abs().argmax())
    assert abs(peak - 440) <= 2


@pytest.mark.parametrize(
    ("sound", "words"),
    [
        (AudioClip(torch.zeros(0, 9), 8000), r"\(0, 9\)"),
        (AudioClip(torch.zeros(9), 8000), r"\(9,\)"),
        (AudioClip(torch.zeros(1, 9), 0), "0 samples per second"),
    ],
)
def test_what_is_no_sound_is_refused_before_a_frame_is_asked_for(tmp_path, sound, words):
    def frames():
        raise AssertionError("a frame was made")
        yield

    with pytest.raises(ValueError, match=words):
        write_video(tmp_path / "a.mp4", frames(), frame_rate=8, audio=sound)


# Time.


@pytest.mark.parametrize("suffix", ["mov", "mkv"])
def test_sound_that_begins_later_than_the_picture_is_preceded_by_silence(tmp_path, suffix):
    path = write_clip(tmp_path / f"a.{suffix}", steps(RATE // 2), sound=RATE // 2)
    assert eighths(read_audio(path)) == [0, 0, 0, 0, 1, 2, 3, 4]


@pytest.mark.parametrize("suffix", ["mov", "mkv"])
def test_sound_that_begins_earlier_than_the_picture_is_cut(tmp_path, suffix):
    path = write_clip(tmp_path / f"a.{suffix}", steps(RATE + RATE // 4), picture=2)
    assert eighths(read_audio(path)) == [3, 4, 5, 6, 7, 8, 9, 10]


def test_the_delay_is_still_there_in_a_saved_copy(tmp_path):
    path = write_clip(tmp_path / "a.mkv", np.full((RATE // 2, 1), 0.5), sound=RATE // 2)
    VideoStream.from_file(path).save(tmp_path / "b.mp4")
    waveform = read_audio(tmp_path / "b.mp4").waveform[0]
    assert waveform[: RATE // 2 - 800].abs().max() < 0.02
    assert waveform[RATE // 2 + 800 :].mean() == pytest.approx(0.5, abs=0.05)


def test_sound_is_as_long_as_the_pictures_whatever_the_file_has(tmp_path):
    for name, seconds in (("short", 0.5), ("long", 3)):
        path = write_clip(tmp_path / f"{name}.mkv", steps(int(seconds * RATE)))
        assert read_audio(path).waveform.shape == (1, RATE)
    assert eighths(read_audio(tmp_path / "short.mkv")) == [1, 2, 3, 4, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({"start": 3}, [4, 5, 6, 7, 8]),
        ({"start": 2, "count": 3}, [3, 4, 5]),
        ({"start": 1, "count": 2, "stride": 3}, [2, 3, 4, 5, 6, 7]),
        ({"stride": 3}, [1, 2, 3, 4, 5, 6, 7, 8, 0]),  # three frames of three eighths
    ],
)
def test_sound_belongs_to_the_frames_that_are_asked_for(tmp_path, request_, expected):
    path = write_clip(tmp_path / "a.mkv", steps(RATE))
    assert eighths(read_audio(path, **request_)) == expected


def test_sound_of_a_codec_that_nobody_knows_is_named(tmp_path):
    path = write_clip(tmp_path / "a.mkv", steps(RATE))
    path.write_bytes(path.read_bytes().replace(b"A_PCM/INT/LIT", b"A_PCM/INT/LIX"))
    with pytest.raises(
        ValueError, match="sound of .*a.mkv cannot be decoded: its codec or its sam"
    ):
        read_audio(path)


@pytest.mark.parametrize(("suffix", "clock"), [("mp4", 0), ("webm", 48)])  # a millisecond
def test_sound_far_into_a_file_is_found_by_a_jump(tmp_path, suffix, clock):
    """A tone that rises by 10 Hz a second, so that each second has a pitch of its own."""
    rate = 48_000
    pitch = 200 + 10 * torch.arange(30 * rate).div(rate, rounding_mode="floor").double()
    tone = (2 * torch.pi * pitch.cumsum(0) / rate).sin().mul(0.5).float()[None]
    path = tmp_path / f"a.{suffix}"
    write_video(path, [torch.zeros(60, 3, 32, 32)], frame_rate=2, audio=AudioClip(tone, rate))
    part = read_audio(path, start=46, count=4).waveform[0]
    whole = read_audio(path).waveform[0]
    shifted = (whole[23 * rate + k : 25 * rate + k] for k in range(-clock, clock + 1))
    assert len(part) == 2 * rate and min((part - one).abs().max() for one in shifted) < 1e-3
    assert int(torch.fft.rfft(part[:rate]).abs().argmax()) == 430
