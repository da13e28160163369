"""Files of other programs: containers, transparency, display matrices, excessive sizes."""

from __future__ import annotations

import os
import socket
import struct
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from videoldm.core.media.files import open_video, read_frames, read_metadata, write_video

FRAMES = 50


def write_file(path: Path, codec: str, rate: Fraction, *, container: str | None = None,
               **options: str) -> Path:  # fmt: skip
    """50 frames whose brightness tells their number modulo 32; a key frame every ten."""
    with av.open(str(path), "w", format=container, options=options) as file:
        stream = file.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.gop_size, stream.bit_rate = 10, 2_000_000
        if codec in ("mpeg1video", "mpeg2video", "mpeg4"):
            stream.codec_context.max_b_frames = 2
        for number in range(FRAMES):
            image = np.full((48, 64, 3), 30 + 6 * (number % 32), np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        file.mux(stream.encode(None))
    return path


def numbers(path: Path, **request) -> list[int]:
    frames = torch.cat(list(read_frames(path, **request)))
    return [round((float(one.mean()) * 127.5 + 127.5 - 30) / 6) for one in frames]


@pytest.mark.parametrize("rate", [Fraction(25), Fraction(30000, 1001)], ids=["25", "ntsc"])
@pytest.mark.parametrize(
    ("name", "codec", "container"),
    [
        ("a.ts", "libx264", None),
        ("a.ts", "mpeg2video", None),
        ("a.m2ts", "libx264", "mpegts"),
        ("a.mpg", "mpeg2video", None),
        ("a.mpeg", "mpeg1video", None),
        ("a.vob", "mpeg2video", "vob"),
        ("a.flv", "flv", None),
        ("a.flv", "libx264", None),
        ("a.wmv", "wmv2", None),
        ("a.wmv", "msmpeg4", "asf"),
        ("a.m4v", "libx264", "mp4"),
        ("a.3gp", "mpeg4", None),
        ("a.avi", "libx264", None),
        ("a.avi", "mpeg4", None),
    ],
)
def test_containers_have_their_frames_and_rates(tmp_path, name, codec, container, rate):
    path = write_file(tmp_path / name, codec, rate, container=container)
    info = open_video(path)
    assert (info.frames, info.frame_rate, info.width, info.height) == (FRAMES, rate, 64, 48)
    assert numbers(path) == [number % 32 for number in range(FRAMES)]
    assert numbers(path, start=23, count=4) == [23, 24, 25, 26]


def test_camera_recordings_with_time_codes_before_each_packet(tmp_path):
    path = write_file(tmp_path / "a.mts", "libx264", Fraction(25), container="mpegts",
                      mpegts_m2ts_mode="1")  # fmt: skip
    assert path.read_bytes()[4] == 0x47 and numbers(path) == [n % 32 for n in range(FRAMES)]


def test_raw_streams_without_times_are_decoded_from_their_beginning(tmp_path):
    path = write_file(tmp_path / "a.m4v", "mpeg4", Fraction(25), container="m4v")
    assert numbers(path, start=23, count=4) == [23, 24, 25, 26]


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_a_recording_that_begins_in_the_middle_has_the_frames_from_its_first_key_frame(
    tmp_path, codec
):
    path = write_file(tmp_path / "a.ts", codec, Fraction(25))
    path.write_bytes(path.read_bytes()[188 * 12 :])
    first = FRAMES - open_video(path).frames
    assert 0 < first <= 10
    assert numbers(path) == [number % 32 for number in range(first, FRAMES)]
    assert numbers(path, start=2, count=2) == [first + 2, first + 3]


def test_tags_in_another_encoding_do_not_keep_a_video_from_being_read(tmp_path):
    path = write_video(
        tmp_path / "a.mp4", [torch.zeros(2, 3, 32, 32)], frame_rate=8, metadata={"title": "Bären"}
    ).path
    content = path.read_bytes()
    assert "Bären".encode() in content
    path.write_bytes(content.replace("Bären".encode(), b"B\xe4\xe4ren"))
    assert open_video(path).frames == 2
    assert read_metadata(path)["title"] == "B\ufffd\ufffdren"


# Transparency.


def half_clear(height: int = 32, width: int = 64) -> np.ndarray:
    """Opaque red on the left, transparent green on the right, half-transparent blue below."""
    image = np.zeros((height, width, 4), np.uint8)
    image[:, : width // 2] = 255, 0, 0, 255
    image[:, width // 2 :] = 0, 255, 0, 0
    image[height // 2 :] = 0, 0, 255, 128
    return image


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "tags"),
    [
        ("a.mov", "qtrle", "argb", {}),
        ("a.mov", "png", "rgba", {}),
        ("a.mov", "prores_ks", "yuva444p10le", {}),
        ("a.webm", "libvpx-vp9", "yuva420p", {"alpha_mode": "1"}),
        ("a.webm", "libvpx", "yuva420p", {"alpha_mode": "1"}),
        ("a.mkv", "ffv1", "yuva420p", {}),
        ("a.mkv", "ffv1", "bgra", {}),
    ],
)
def test_what_is_transparent_in_a_video_is_black(tmp_path, name, codec, pixels, tags):
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 32, pixels
        stream.bit_rate = 4_000_000
        stream.metadata.update(tags)
        stream.options = {"auto-alt-ref": "0"} if codec == "libvpx" else {}
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(half_clear(), format="rgba")
            container.mux(stream.encode(frame.reformat(format=pixels)))
        container.mux(stream.encode(None))
    assert open_video(path).frames == 3
    for request in ({}, {"start": 1}):
        frame = next(read_frames(path, **request))[-1].add(1).mul(127.5)
        left, right, bottom = frame[:, 4:12, 8:24], frame[:, 4:12, 40:56], frame[:, 20:28, 8:56]
        for part, colour in ((left, (255, 0, 0)), (right, (0, 0, 0)), (bottom, (0, 0, 128))):
            assert part.mean((1, 2)).tolist() == pytest.approx(colour, abs=8)


# Display matrices.

QUARTERS = {"as it is": (1, 0, 0, 1), "mirrored": (-1, 0, 0, 1), "upside down": (1, 0, 0, -1)}
TURNS = {0: (1, 0, 0, 1), 90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}


@pytest.mark.parametrize("flip", QUARTERS)
@pytest.mark.parametrize("turn", TURNS)
def test_display_matrices_turn_and_mirror_as_players_do(tmp_path, flip, turn):
    frames = torch.full((2, 3, 32, 64), -0.9)
    frames[:, :, :16, :32] = 0.9  # top left
    frames[:, :, 16:, :32] = 0.0
    path = write_video(tmp_path / "a.mp4", [frames], frame_rate=8).path
    one, other = np.reshape(QUARTERS[flip], (2, 2)), np.reshape(TURNS[turn], (2, 2))
    matrix = (one @ other).tolist()  # first mirrored, then turned
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 44
    (a, b), (c, d) = ((int(value) << 16 for value in row) for row in matrix)
    content[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    # (x, y) from the middle goes to (a x + c y, b x + d y).
    height, width = (64, 32) if turn in (90, 270) else (32, 64)
    expected = torch.zeros(3, height, width)
    for y in range(32):
        for x in range(64):
            u, v = x - 31.5, y - 15.5
            row = v * matrix[1][1] + u * matrix[0][1] + (height - 1) / 2
            column = u * matrix[0][0] + v * matrix[1][0] + (width - 1) / 2
            expected[:, int(row), int(column)] = frames[0, :, y, x]
    info, read = open_video(path), torch.cat(list(read_frames(path)))
    assert (info.height, info.width) == tuple(read.shape[-2:]) == (height, width)
    assert (read[0] - expected).abs().mean() < 0.05


# What is not a file, and what is too large.


def test_pipes_sockets_and_devices_are_refused_before_they_are_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # names of sockets must be short
    os.mkfifo("pipe.mp4")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("socket.mp4")
        Path("device.mp4").symlink_to("/dev/zero")
        for name, words in (("pipe", "named pipe"), ("socket", "socket"), ("device", "device")):
            with pytest.raises(ValueError, match=f"{name}.mp4 is a {words}, not a file"):
                open_video(Path(f"{name}.mp4"))
    Path("images").mkdir()
    os.mkfifo("images/00000.png")
    with pytest.raises(ValueError, match="named pipe"):
        open_video(Path("images"))


def test_files_that_may_not_be_read_are_named_without_numbers_of_errors(tmp_path, monkeypatch):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"x")

    def refused(*_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(ValueError, match="a.mp4 cannot be read: permission denied$"):
        open_video(path)


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "options", "words"),
    [
        ("a.mp4", "libx264", "yuv420p", {"preset": "ultrafast"}, "is 6000x6000, 36 million pixels"),
        ("a.mov", "png", "gray", {}, "at most 34 million|larger than the 34 million pixels"),
    ],
)
def test_a_video_that_claims_a_huge_size_is_refused_by_its_header(
    tmp_path, name, codec, pixels, options, words
):
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=8, options=options)
        stream.width, stream.height, stream.pix_fmt = 6000, 6000, pixels
        frame = av.VideoFrame(6000, 6000, pixels)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    began = time.process_time()
    with pytest.raises(ValueError, match=words) as caught:
        open_video(path)
    assert time.process_time() - began < 1 and str(caught.value).count(name) == 1


def test_a_flat_picture_in_few_bytes_is_read_as_long_as_it_is_no_larger_than_usual(tmp_path):
    frames = torch.zeros(1, 3, 1080, 1920).expand(2, -1, -1, -1)
    assert open_video(write_video(tmp_path / "a.mp4", [frames], frame_rate=8).path).frames == 2


def test_codecs_that_nobody_knows_are_named(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=8)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for frame in (av.VideoFrame(32, 32, "yuv420p"), None):
            container.mux(stream.encode(frame))
    path.write_bytes(path.read_bytes().replace(b"FFV1", b"FFZ9"))
    with pytest.raises(ValueError, match="a.mkv cannot be read as a video: the codec of its pic"):
        open_video(path)
