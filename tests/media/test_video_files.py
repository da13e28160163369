"""Frames <-> files: exact counts and rates, animations and folders, metadata, sound, streams."""

from __future__ import annotations

import json
import os
import struct
from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch
from media_toys import all_frames, marked, noise, numbers_of, path_for
from PIL import Image
from videoldm.core.media.animations import CLOCKS
from videoldm.core.media.files import (
    FORMATS,
    AudioClip,
    VideoStream,
    exact_frame_rate,
    open_video,
    read_audio,
    read_frames,
    read_metadata,
    write_video,
)

CLIPS = Path(
    os.environ.get("VIDEOLDM_CLIPS", Path(__file__).parents[3] / "shared" / "clips")
).expanduser()
needs_clips = pytest.mark.skipif(
    not CLIPS.is_dir(), reason=f"NO REAL CLIPS at {CLIPS}: set VIDEOLDM_CLIPS to run this test"
)
LONG_JSON = json.dumps({"text": "Ein Fuchs läuft – 日本 🦊 ", "pad": "x" * 1_100_000})


# Counts and rates.


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 61])
@pytest.mark.parametrize("rate", [Fraction(24000, 1001), 8, 12.5])
def test_round_trip_keeps_every_frame_in_order(tmp_path, format, count, rate):
    chunks = marked(range(count)).split(7)
    info = write_video(path_for(tmp_path, format), chunks, frame_rate=rate, format=format)
    found = open_video(info.path)
    assert (info.frames, found.frames) == (count, count)
    assert (found.width, found.height) == (info.width, info.height) == (48, 32)
    assert numbers_of(all_frames(info.path)) == [n % 32 for n in range(count)]
    if format in ("webp", "apng") and count == 1:
        assert found.frame_rate == 10  # A still has no duration.
    elif format in ("gif", "webp"):  # whole hundredths or thousandths of a second, without drift
        assert abs(found.seconds - info.seconds) <= CLOCKS[f".{format}"] / 2 + 0.0001
    else:
        assert found.frame_rate == exact_frame_rate(rate)
    assert [p.name for p in tmp_path.iterdir()] == [info.path.name]  # nothing left over


def test_gif_durations_are_whole_hundredths_around_the_true_time(tmp_path):
    info = write_video(tmp_path / "a.gif", [marked(range(16))], frame_rate=8)
    with Image.open(info.path) as image:
        durations = []
        for index in range(image.n_frames):
            image.seek(index)
            durations.append(image.info["duration"])
        assert image.info["loop"] == 0
    assert set(durations) == {120, 130} and sum(durations) == 2000


@pytest.mark.parametrize(
    ("given", "exact"),
    [
        (23.976, Fraction(24000, 1001)),
        (29.97, Fraction(30000, 1001)),
        (59.94, Fraction(60000, 1001)),
        (24.0, Fraction(24)),
        (12.5, Fraction(25, 2)),
        (8, Fraction(8)),
    ],
)
def test_float_rates_become_the_fraction_that_is_meant(given, exact):
    assert exact_frame_rate(given) == exact


@pytest.mark.parametrize("rate", [0, -1, 0.0, float("nan"), float("inf")])
def test_impossible_rates_are_refused(rate):
    with pytest.raises(ValueError, match="frame rate"):
        exact_frame_rate(rate)


@pytest.mark.parametrize("format", FORMATS)
def test_start_stride_count_and_chunk_pick_the_frames_asked_for(tmp_path, format):
    path = path_for(tmp_path, format)
    write_video(path, [marked(range(31))], frame_rate=8, format=format)
    assert numbers_of(all_frames(path, start=5)) == list(range(5, 31))
    assert numbers_of(all_frames(path, start=29)) == [29, 30]
    assert numbers_of(all_frames(path, start=2, stride=4, count=3)) == [2, 6, 10]
    sizes = [len(chunk) for chunk in read_frames(path, stride=3, chunk=4)]
    assert sizes == [4, 4, 3]
    assert next(read_frames(path, size=(10, 14))).shape[-2:] == (10, 14)


def test_seeking_across_key_frames_gives_the_same_frames_as_decoding_from_the_start(tmp_path):
    path = tmp_path / "a.mp4"
    write_video(path, noise(50, 32).split(16), frame_rate=8)  # a key frame every 16 frames
    whole = all_frames(path)
    for start in (1, 15, 16, 17, 33, 49):
        assert torch.equal(all_frames(path, start=start), whole[start:])


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"start": 16}, "16 frames.*start 16"),
        ({"count": 17}, "17 frames.*16"),
        ({"start": 10, "stride": 2, "count": 4}, "4 frames.*3"),
        ({"count": 0}, "count 0"),
        ({"stride": 0}, "stride 0"),
        ({"chunk": 0}, "chunk 0"),
        ({"size": (0, 4)}, "size"),
    ],
)
def test_requests_that_do_not_fit_fail_before_decoding(tmp_path, request_, words):
    write_video(tmp_path / "a.mp4", [marked(range(16))], frame_rate=8)
    with pytest.raises(ValueError, match=words):
        read_frames(tmp_path / "a.mp4", **request_)


@pytest.mark.parametrize("format", ["mp4", "webm"])
def test_odd_sizes_grow_by_a_replicated_edge(tmp_path, format):
    info = write_video(tmp_path / f"a.{format}", [marked(range(3), 31, 47)], frame_rate=8)
    frames = all_frames(info.path)
    assert (info.width, info.height) == (48, 32) and frames.shape[-2:] == (32, 48)
    assert (frames - marked(range(3), 32, 48)).abs().max() < 4 / 127.5


@pytest.mark.parametrize("format", FORMATS)
def test_same_frames_same_bytes(tmp_path, format):
    contents = []
    for name in ("a", "b"):
        path = path_for(tmp_path, format, name)
        write_video(path, noise(9, 48).split(4), frame_rate=8, format=format)
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        contents.append([file.read_bytes() for file in files])
    assert contents[0] == contents[1]


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_rotation_in_the_header_is_carried_out(tmp_path, turns):
    path = tmp_path / "a.mp4"
    frames = torch.full((2, 3, 32, 64), -0.9)
    frames[:, :, :16, :32] = 0.9  # top left
    write_video(path, [frames], frame_rate=8)
    content = bytearray(path.read_bytes())
    # tkhd version 0: the 3x3 matrix starts 44 bytes after the name; turns are counterclockwise.
    sine, cosine = [(0, 1), (-1, 0), (0, -1), (1, 0)][turns]
    place = content.index(b"tkhd") + 4 + 40
    one = 1 << 16
    matrix = (cosine * one, sine * one, 0, -sine * one, cosine * one, 0, 0, 0, 1 << 30)
    content[place : place + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(content)
    info, read = open_video(path), all_frames(path)
    expected = torch.rot90(frames, turns, (2, 3))
    assert (info.height, info.width) == tuple(read.shape[-2:]) == tuple(expected.shape[-2:])
    assert (read - expected).abs().mean() < 0.05


@pytest.mark.parametrize("suffix", ["mov", "mkv", "avi"])
def test_other_containers_and_codecs_are_read_to_the_last_frame(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    images = marked(range(17)).add(1).mul(127.5).byte().permute(0, 2, 3, 1).contiguous().numpy()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg" if suffix == "avi" else "libx264", rate=25)
        stream.height, stream.width = images.shape[1:3]
        stream.pix_fmt = "yuvj420p" if suffix == "avi" else "yuv420p"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    info = open_video(path)
    assert (info.frames, info.frame_rate) == (17, 25)
    assert numbers_of(all_frames(path)) == list(range(17))
    assert numbers_of(all_frames(path, start=15)) == [15, 16]


# Animated images and folders.


def test_animations_with_variable_durations_and_alpha(tmp_path):
    frames = marked(range(5)).add(1).mul(127.5).byte().permute(0, 2, 3, 1).numpy()
    pictures = [Image.fromarray(frame) for frame in frames]
    durations = [40, 80, 120, 200, 60]
    for suffix, options in [("gif", {}), ("webp", {"lossless": True}), ("png", {})]:
        path = tmp_path / f"a.{suffix}"
        pictures[0].save(
            path, save_all=True, append_images=pictures[1:], duration=durations, loop=0, **options
        )
        info = open_video(path)
        assert (info.frames, info.frame_rate) == (5, 10)
        assert numbers_of(all_frames(path)) == [0, 1, 2, 3, 4]
        assert numbers_of(all_frames(path, start=3)) == [3, 4]
    clear = Image.new("RGBA", (8, 8), (255, 255, 255, 0))
    clear.save(tmp_path / "clear.webp", lossless=True, exact=True)
    assert all_frames(tmp_path / "clear.webp").max() == -1


def test_folders_are_ordered_by_number_and_must_agree_in_size(tmp_path):
    frames = marked(range(12), 8, 8).add(1).mul(127.5).byte().permute(0, 2, 3, 1).numpy()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"shot_{number}.png")
    assert numbers_of(all_frames(tmp_path)) == list(range(12))
    assert open_video(tmp_path).frame_rate == 24
    Image.new("RGB", (9, 8)).save(tmp_path / "shot_12.png")
    with pytest.raises(ValueError, match="9x8.*8x8"):
        all_frames(tmp_path)


# Metadata and sound.


@pytest.mark.parametrize("format", FORMATS)
def test_metadata_round_trips_with_unicode_and_more_than_a_megabyte(tmp_path, format):
    metadata = {"prompt": LONG_JSON, "workflow": '{"nodes": [], "title": "Füchse 🦊"}'}
    path = path_for(tmp_path, format)
    write_video(path, [marked(range(3))], frame_rate=8, format=format, metadata=metadata)
    found = read_metadata(path)
    assert {key: found[key] for key in metadata} == metadata
    assert json.loads(found["prompt"])["text"].startswith("Ein Fuchs")
    assert numbers_of(all_frames(path)) == [0, 1, 2]


def test_foreign_metadata_is_found(tmp_path):
    picture = Image.new("RGB", (8, 8))
    exif = Image.Exif()
    exif[0x0110], exif[0x010F] = 'prompt:{"1": {}}', 'workflow:{"nodes": []}'
    picture.save(tmp_path / "a.webp", exif=exif)
    assert read_metadata(tmp_path / "a.webp") == {
        "prompt": '{"1": {}}',
        "workflow": '{"nodes": []}',
    }
    picture.save(tmp_path / "a.gif", comment=b"made by hand")
    assert read_metadata(tmp_path / "a.gif") == {"comment": "made by hand"}
    picture.save(tmp_path / "b.gif")
    assert read_metadata(tmp_path / "b.gif") == {}


@pytest.mark.parametrize("format", ["mp4", "webm"])
def test_sound_travels_along_and_is_cut_to_the_pictures(tmp_path, format):
    rate = 48_000
    tone = torch.sin(torch.arange(3 * rate) * (2 * torch.pi * 440 / rate)).mul(0.5).repeat(2, 1)
    path = tmp_path / f"a.{format}"
    write_video(path, [marked(range(16))], frame_rate=8, audio=AudioClip(tone, rate))
    assert open_video(path).frames == 16
    sound = read_audio(path)
    assert sound.sample_rate == rate and sound.waveform.shape[0] == 2
    assert abs(sound.waveform.shape[1] / rate - 2) < 0.05
    middle = sound.waveform[0, rate // 2 : rate // 2 + rate]
    peak = torch.fft.rfft(middle).abs().argmax()
    assert abs(int(peak) - 440) <= 1 and 0.3 < middle.abs().max() < 0.7


def test_silent_files_have_no_sound_and_gif_refuses_it(tmp_path):
    write_video(tmp_path / "a.mp4", [marked(range(2))], frame_rate=8)
    assert read_audio(tmp_path / "a.mp4") is None
    with pytest.raises(ValueError, match="sound"):
        write_video(
            tmp_path / "a.gif",
            [marked(range(2))],
            frame_rate=8,
            audio=AudioClip(torch.zeros(1, 9), 8000),
        )


# VideoStream.


def test_a_stream_starts_over_and_saves_itself(tmp_path):
    stream = VideoStream.from_tensor(marked(range(21)), 12.5, chunk=8)
    assert [len(chunk) for chunk in stream.chunks()] == [8, 8, 5]
    assert torch.equal(stream.frames_tensor(), marked(range(21)))
    info = stream.save(tmp_path / "a.mp4", metadata={"prompt": "{}"})
    again = VideoStream.from_file(info.path)
    assert (again.frames, again.frame_rate, again.width, again.height) == (21, 12.5, 48, 32)
    assert numbers_of(again.frames_tensor()) == numbers_of(again.frames_tensor()) == list(range(21))
    again.save(tmp_path / "a.gif")
    assert open_video(tmp_path / "a.gif").frames == 21


def test_a_stream_keeps_its_promises_or_says_which_it_broke():
    short = VideoStream(lambda: iter([marked(range(3))]), Fraction(8), 4, 48, 32)
    with pytest.raises(ValueError, match="3 frames but 4"):
        short.frames_tensor()
    small = VideoStream(lambda: iter([marked(range(3))]), Fraction(8), 3, 64, 32)
    with pytest.raises(ValueError, match="48x32.*64x32"):
        small.frames_tensor()


def test_a_stream_takes_its_sound_along(tmp_path):
    sound = AudioClip(torch.rand(1, 16_000) - 0.5, 8000)
    stream = VideoStream.from_tensor(marked(range(16)), 8, audio=sound)
    stream.save(tmp_path / "a.mp4")
    stream.save(tmp_path / "a.gif")
    assert VideoStream.from_file(tmp_path / "a.mp4").audio().waveform.shape[0] == 1
    assert VideoStream.from_file(tmp_path / "a.gif").audio() is None


# Real files.

REAL = {
    "bikes.mp4": (250, 640, 272, Fraction(25)),
    "carphone_pristine.mp4": (120, 176, 144, Fraction(30000, 1001)),
    "cockatoo.mp4": (280, 1280, 720, Fraction(20)),
    "realshort.mp4": (36, 320, 240, None),
    "newtonscradle.gif": (36, 200, 150, None),
    "lavie_panda.gif": (16, 512, 320, None),
    "animatediff_xl_01.gif": (16, 512, 293, None),
}


@needs_clips
@pytest.mark.parametrize("name", REAL)
def test_real_clips_have_the_frames_they_are_known_to_have(name):
    frames, width, height, rate = REAL[name]
    info = open_video(CLIPS / name)
    assert (info.frames, info.width, info.height) == (frames, width, height)
    assert rate is None or info.frame_rate == rate
    last = list(read_frames(CLIPS / name, start=frames - 2, size=(32, 32)))
    assert sum(map(len, last)) == 2


@needs_clips
def test_a_real_clip_survives_writing(tmp_path):
    frames = all_frames(CLIPS / "carphone_pristine.mp4", count=24)
    write_video(tmp_path / "a.mp4", frames.split(8), frame_rate=30000 / 1001)
    again = all_frames(tmp_path / "a.mp4")
    assert -10 * ((again - frames) / 2).square().mean().log10() > 36
