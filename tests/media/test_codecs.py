"""Every format: colours and their tags, transparency, loops, sound in sync, memory."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from media_toys import RATE, marked, numbers_of, ramp, time_of
from PIL import Image
from videoldm.core.media.files import (
    FORMATS,
    AudioClip,
    Selection,
    VideoStream,
    encoding_of,
    open_video,
    read_audio,
    read_metadata,
    write_video,
)
from videoldm.core.media.hardware import hardware_encodings

VIDEOS = [one for one in FORMATS if encoding_of(one).audio is not None]
TRANSPARENT = [one for one in FORMATS if encoding_of(one).alpha_pixels is not None]
# Mean error of smooth colours in 255ths at the default quality.
COLOUR_ERROR = {"gif": 7.5, "apng": 0.25, "png": 0.25, "mov (ProRes 4444)": 0.3, "webp": 2.9}
USUAL_ERROR = 1.1


def path_for(folder, format: str, name: str = "a"):
    return folder / f"{name}{encoding_of(format).suffix}"


def smooth_colours(frames: int = 6, side: int = 64) -> torch.Tensor:
    """All of the RGB cube in slow gradients that move a little."""
    y, x = torch.meshgrid(torch.linspace(0, 1, side), torch.linspace(0, 1, side), indexing="ij")
    time = torch.linspace(0, 0.2, frames)[:, None, None]
    red, green, blue = x + 0 * time, y + 0 * time, (1 - x + time).clamp(0, 1)
    return torch.stack([red, green.expand_as(red), blue.expand_as(red)], 1) * 2 - 1


def frames_of(path, **more) -> torch.Tensor:
    stream = VideoStream.from_selection(open_video(path), Selection(), **more)
    return stream.frames_tensor()


# Colours.


@pytest.mark.parametrize("format", FORMATS)
def test_colours_come_back(tmp_path, format):
    given = smooth_colours()
    path = write_video(path_for(tmp_path, format), [given], frame_rate=8, format=format).path
    error = (frames_of(path) - given).abs() * 127.5
    bound = COLOUR_ERROR.get(format, USUAL_ERROR)
    assert error.mean() <= bound  # Rounding to 8 bits alone is 0.25.
    # No cast: each channel's mean is right, too.
    cast = (frames_of(path) - given).mean((0, 2, 3)).abs() * 127.5
    assert cast.max() <= (1.0 if format == "gif" else 0.3), cast


@pytest.mark.parametrize("format", VIDEOS)
def test_tags_say_bt709_in_the_stream_and_in_the_container(tmp_path, format):
    path = path_for(tmp_path, format)
    write_video(path, [smooth_colours()], frame_rate=Fraction(24000, 1001), format=format)
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        context = stream.codec_context
        container = (context.colorspace, context.color_primaries, context.color_trc)
        assert [int(one) for one in container] == [1, 1, 1] and int(context.color_range) == 1
        frame = next(file.decode(stream))
        assert int(frame.colorspace) == 1 and int(frame.color_range) == 1
        assert stream.average_rate == Fraction(24000, 1001)
        codec = {"libx264": "h264", "libx265": "hevc", "libsvtav1": "av1", "libvpx-vp9": "vp9",
                 "prores_ks": "prores"}[encoding_of(format).codec]  # fmt: skip
        names = {"libdav1d": "av1", "libvpx-vp9": "vp9"}
        assert names.get(context.name, context.name) == codec


@pytest.mark.parametrize("matrix", ["bt709", "smpte170m", "bt2020nc"])
@pytest.mark.parametrize("full", [False, True])
def test_files_of_others_are_read_as_their_tags_say(tmp_path, matrix, full):
    """The same picture in other matrices and ranges is the same frames."""
    numbers = {"bt709": (1, "ITU709"), "smpte170m": (6, "ITU601"), "bt2020nc": (9, "BT2020")}
    code, name = numbers[matrix]
    given = smooth_colours(1)
    image = given[0].add(1).mul(127.5).round().byte().permute(1, 2, 0).numpy()
    with av.open(str(tmp_path / "a.mp4"), "w") as file:
        stream = file.add_stream("libx264", rate=8, options={"crf": "1"})
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv444p"
        context = stream.codec_context
        context.colorspace, context.color_range = code, 2 if full else 1
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        picture = picture.reformat(format="yuv444p", dst_colorspace=name, src_color_range="JPEG",
                                   dst_color_range="JPEG" if full else "MPEG")  # fmt: skip
        picture.colorspace, picture.color_range = code, 2 if full else 1
        for packet in [*stream.encode(picture), *stream.encode(None)]:
            file.mux(packet)
    error = (frames_of(tmp_path / "a.mp4") - given).abs() * 127.5
    assert error.mean() < 1.2, error.mean()


# Transparency.


def see_through(frames: int = 5) -> torch.Tensor:
    """Frames [t, 4, h, w] that are opaque on the left and transparent on the right."""
    alpha = torch.linspace(1, -1, 64).expand(frames, 1, 64, 64).clone()
    alpha[..., :16], alpha[..., 48:] = 1, -1
    return torch.cat([smooth_colours(frames), alpha], 1)


@pytest.mark.parametrize("format", TRANSPARENT)
def test_transparency_comes_back(tmp_path, format):
    given = see_through()
    path = write_video(path_for(tmp_path, format), [given], frame_rate=8, format=format).path
    found = frames_of(path, alpha=True)
    assert found.shape == given.shape
    error = (found - given).abs() * 127.5
    if format == "gif":  # A pixel is opaque or transparent.
        assert set(found[:, 3].unique().tolist()) == {-1, 1}
        assert (found[..., 48:][:, 3] == -1).all() and (found[..., :16][:, 3] == 1).all()
    else:
        assert error[:, 3].mean() <= 2.5
    assert error[:, :3, :, :16].mean() <= 8  # Colours where it is opaque.
    black = frames_of(path)
    assert black.shape[1] == 3 and (black[..., 50:] < -0.9).all()


@pytest.mark.parametrize("format", sorted(set(FORMATS) - set(TRANSPARENT)))
def test_other_formats_get_the_frames_over_black(tmp_path, format):
    path = path_for(tmp_path, format)
    write_video(path, [see_through()], frame_rate=8, format=format)
    found = frames_of(path)
    assert (found[..., 52:] < -0.9).all()
    assert (found[..., :12] - smooth_colours(5)[..., :12]).abs().mean() < 0.05
    assert (frames_of(path, alpha=True)[:, 3] == 1).all()


# Animated images.


@pytest.mark.parametrize("format", ["gif", "webp", "apng"])
@pytest.mark.parametrize("plays", [0, 1, 2, 7])
def test_animations_say_how_often_they_play(tmp_path, format, plays):
    stream = VideoStream.from_tensor(smooth_colours(), 8)
    path = path_for(tmp_path, format)
    stream.save(path, format=format, loop_count=plays, metadata={"prompt": '{"1": "é"}'})
    with Image.open(path) as image:
        loop = image.info.get("loop")
    # GIF counts repetitions and says nothing where there is none.
    expected = {0: 0, 1: None, 2: 1, 7: 6}[plays] if format == "gif" else plays
    assert loop == expected
    assert read_metadata(path) == {"prompt": '{"1": "é"}'}
    assert open_video(path).frames == 6


def test_comfyui_finds_texts_in_a_webp_where_it_writes_them(tmp_path):
    path = tmp_path / "a.webp"
    texts = {"prompt": '{"1": {}}', "workflow": '{"nodes": []}'}
    write_video(path, [smooth_colours(2)], frame_rate=8, metadata=texts)
    with Image.open(path) as image:
        exif = image.getexif()
    assert exif[0x0110] == 'prompt:{"1": {}}' and exif[0x010F] == 'workflow:{"nodes": []}'


@pytest.mark.parametrize("count", [1, 2])
def test_a_still_keeps_its_texts_in_every_format(tmp_path, count):
    for format in FORMATS:
        path = path_for(tmp_path, format, f"{count}{FORMATS.index(format)}")
        write_video(path, [marked(range(count))], frame_rate=8, format=format,
                    metadata={"prompt": "{}"})  # fmt: skip
        assert read_metadata(path)["prompt"] == "{}", format
        assert open_video(path).frames == count, format


# Sound.


def growing_tone(seconds: float, rate: int) -> torch.Tensor:
    """Sound [1, samples] whose loudness grows by 0.1 a second: codecs drop what is constant."""
    return ramp(seconds, rate) * tone(seconds, rate)


def tone(seconds: float, rate: int) -> torch.Tensor:
    """Sound [samples] of 500 Hz."""
    return torch.sin(torch.arange(round(seconds * rate)) / rate * 1000 * torch.pi)


def loudness(waveform: torch.Tensor, place: float, rate: int) -> float:
    """Amplitude of the tone in the 20 ms around a place from 0 to 1."""
    middle, half = round(place * waveform.shape[1]), rate // 100
    return float(waveform[0, middle - half : middle + half].square().mean().mul(2).sqrt())


@pytest.mark.parametrize("format", VIDEOS)
@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(25, 2)])
@pytest.mark.parametrize("sampled", [16_000, 44_100])
def test_sound_is_within_a_frame_of_its_pictures(tmp_path, format, rate, sampled):
    """At the beginning and at the end, whatever the encoder's delay."""
    count = 31
    lasts = float(count / rate)
    path = path_for(tmp_path, format)
    write_video(path, [marked(range(count))], frame_rate=rate, format=format,
                audio=AudioClip(growing_tone(lasts, sampled), sampled))  # fmt: skip
    info = open_video(path)
    assert info.frames == count and info.frame_rate == rate
    waveform, found_rate = read_audio(path)
    assert waveform.shape[1] == round(lasts * found_rate)
    for place in (0.1, 0.3, 0.5, 0.7, 0.9):
        heard = time_of(loudness(waveform, place, found_rate))
        assert abs(heard - place * lasts) < 1 / rate, (place, heard)


@pytest.mark.parametrize("format", VIDEOS)
@pytest.mark.parametrize("seconds", [0.5, 5.0])
def test_sound_is_padded_or_cut_to_the_frames(tmp_path, format, seconds):
    path = path_for(tmp_path, format)
    audio = AudioClip(tone(seconds, RATE).expand(2, -1), RATE)
    write_video(path, [marked(range(16))], frame_rate=8, format=format, audio=audio)
    with av.open(str(path)) as file:
        track = file.streams.audio[0]
        samples = sum(frame.samples for frame in file.decode(track)) / track.rate
    assert abs(samples - 2) < 0.06  # The last block of a codec may be longer.
    waveform, rate = read_audio(path)
    assert waveform.shape == (2, 2 * rate)
    assert loudness(waveform, 0.1, rate) > 0.8
    assert (loudness(waveform, 0.8, rate) > 0.8) == (seconds > 1)


# Others.


def test_only_hardware_that_encodes_is_offered():
    for name, encoding in hardware_encodings().items():
        assert encoding.codec in av.codecs_available and name.startswith("mp4 (")
    with pytest.raises(ValueError, match="'mp4 .H.266.' is not one of mp4, webm"):
        encoding_of("mp4 (H.266)")


@pytest.mark.parametrize("size", [(16, 16), (48, 32), (34, 50), (130, 66), (32, 96), (2, 2)])
def test_small_and_odd_pictures_encode(tmp_path, size):
    generator = torch.Generator().manual_seed(3)
    frames = torch.rand(20, 3, *size, generator=generator) * 2 - 1
    for format in FORMATS:
        path = path_for(tmp_path, format, format.split()[0] + str(FORMATS.index(format)))
        try:
            info = write_video(path, [frames], frame_rate=8, format=format)
        except OSError as fault:  # Some codecs have a minimum size, and say so.
            assert max(size) < 64 and str(path.name).split(".")[0] in str(fault), fault
            continue
        assert open_video(info.path).frames == 20, format


WRITTEN_AND_READ = """
import sys
from fractions import Fraction
from pathlib import Path
from media_toys import marked, path_for
from videoldm.core.media.files import VideoStream

folder, format = Path(sys.argv[1]), sys.argv[2]
for count in (600, 1600):
    chunks = lambda: (marked(range(k, k + 8), 128, 128) for k in range(0, count, 8))
    path = path_for(folder, format, str(count))
    stream = VideoStream(chunks, Fraction(24), count, 128, 128).ping_pong(folder)
    stream.save(path, format=format, quality=40)
    read = VideoStream.from_file(path)
    assert sum(len(chunk) for chunk in read.chunks()) == 2 * count - 2
    print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to measure memory")
@pytest.mark.parametrize("format", ["mp4", "webp"])
def test_memory_does_not_grow_with_length(tmp_path, format):
    """1,600 frames forwards and backwards take less than 40 MB more than 600, at the highest. In a
    process of its own, since the highest use of this one may be that of any earlier test."""
    command = [sys.executable, "-c", WRITTEN_AND_READ, str(tmp_path), format]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    told = subprocess.run(command, capture_output=True, text=True, env=env)
    assert told.returncode == 0, told.stderr
    few, many = map(int, told.stdout.split())  # kB
    # The 1,000 frames more would be 197 MB as floats, 49 MB as bytes; twice that, back and forth.
    assert many - few < 40_000


def test_numbers_survive_two_generations(tmp_path):
    write_video(tmp_path / "a.mp4", [marked(range(20))], frame_rate=Fraction(24000, 1001))
    VideoStream.from_file(tmp_path / "a.mp4", start=3, stride=2).save(tmp_path / "b.webm")
    assert numbers_of(frames_of(tmp_path / "b.webm")) == list(range(3, 20, 2))
    assert open_video(tmp_path / "b.webm").frame_rate == Fraction(12000, 1001)
