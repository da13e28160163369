"""Frames <-> files: exact counts, true colours, metadata, bounded memory, nothing lost."""

from __future__ import annotations

import json
import os
import struct
import weakref
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from videoldm.core.media.animations import CLOCKS
from videoldm.core.media.files import (
    FORMATS,
    AudioClip,
    VideoStream,
    encoding_of,
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
COLOURS = (
    torch.tensor(
        [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1], [1, 0, 1], [1, 1, 1], [0, 0, 0]]
    ).mul(2.0)
    - 1
)
LONG_JSON = json.dumps({"text": "Ein Fuchs läuft – 日本 🦊 ", "pad": "x" * 1_100_000})


def path_for(folder: Path, format: str, name: str = "clip") -> Path:
    return folder / f"{name}{encoding_of(format).suffix}"


def marked_frames(count: int, height: int = 32, width: int = 48, first: int = 0) -> torch.Tensor:
    """Frames whose brightness tells their number modulo 32 (steps of 6 in 255)."""
    levels = torch.tensor([30 + 6 * (n % 32) for n in range(first, first + count)])
    pixels = (levels / 127.5 - 1).reshape(-1, 1, 1, 1)
    return pixels.expand(-1, 3, height, width).contiguous()


def numbers(frames: torch.Tensor) -> list[int]:
    levels = frames.mean(dim=(1, 2, 3)).add(1).mul(127.5)
    return [round((float(level) - 30) / 6) for level in levels]


def noise(count: int, size: int = 96, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, size, size, generator=generator) * 2 - 1


def all_frames(path: Path, **request) -> torch.Tensor:
    return torch.cat(list(read_frames(path, **request)))


def colour_patches() -> torch.Tensor:
    row = COLOURS.T.reshape(3, 1, -1).repeat_interleave(32, 1).repeat_interleave(32, 2)
    return row.expand(4, -1, -1, -1)


def patch_means(frames: torch.Tensor) -> torch.Tensor:
    """Mean colour in the middle of each patch, away from the subsampled edges: `patches 3`."""
    return torch.stack(
        [frames[..., 8:24, 32 * n + 8 : 32 * n + 24].mean((0, 2, 3)) for n in range(len(COLOURS))]
    )


# Counts and rates.


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 61])
@pytest.mark.parametrize("rate", [Fraction(24000, 1001), 8, 12.5])
def test_round_trip_keeps_every_frame_in_order(tmp_path, format, count, rate):
    chunks = marked_frames(count).split(7)
    info = write_video(path_for(tmp_path, format), chunks, frame_rate=rate, format=format)
    found = open_video(info.path)
    assert (info.frames, found.frames) == (count, count)
    assert (found.width, found.height) == (info.width, info.height) == (48, 32)
    assert numbers(all_frames(info.path)) == [n % 32 for n in range(count)]
    if format in ("webp", "apng") and count == 1:
        assert found.frame_rate == 10  # A still has no duration.
    elif format in ("gif", "webp"):  # whole hundredths or thousandths of a second, without drift
        assert abs(found.seconds - info.seconds) <= CLOCKS[f".{format}"] / 2 + 0.0001
    else:
        assert found.frame_rate == exact_frame_rate(rate)
    assert [p.name for p in tmp_path.iterdir()] == [info.path.name]  # nothing left over


def test_gif_durations_are_whole_hundredths_around_the_true_time(tmp_path):
    info = write_video(tmp_path / "a.gif", [marked_frames(16)], frame_rate=8)
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
    write_video(path, [marked_frames(31)], frame_rate=8, format=format)
    assert numbers(all_frames(path, start=5)) == list(range(5, 31))
    assert numbers(all_frames(path, start=29)) == [29, 30]
    assert numbers(all_frames(path, start=2, stride=4, count=3)) == [2, 6, 10]
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
    write_video(tmp_path / "a.mp4", [marked_frames(16)], frame_rate=8)
    with pytest.raises(ValueError, match=words):
        read_frames(tmp_path / "a.mp4", **request_)


@pytest.mark.parametrize("format", ["mp4", "webm"])
def test_odd_sizes_grow_by_a_replicated_edge(tmp_path, format):
    info = write_video(tmp_path / f"a.{format}", [marked_frames(3, 31, 47)], frame_rate=8)
    frames = all_frames(info.path)
    assert (info.width, info.height) == (48, 32) and frames.shape[-2:] == (32, 48)
    assert (frames - marked_frames(3, 32, 48)).abs().max() < 4 / 127.5


@pytest.mark.parametrize("format", FORMATS)
def test_same_frames_same_bytes(tmp_path, format):
    contents = []
    for name in ("a", "b"):
        path = path_for(tmp_path, format, name)
        write_video(path, noise(9, 48).split(4), frame_rate=8, format=format)
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        contents.append([file.read_bytes() for file in files])
    assert contents[0] == contents[1]


# Colour.


@pytest.mark.parametrize(("format", "tolerance"), [("mp4", 2.5), ("webm", 3.5), ("gif", 2.0)])
def test_saturated_colours_survive(tmp_path, format, tolerance):
    info = write_video(tmp_path / f"a.{format}", [colour_patches()], frame_rate=8, quality=10)
    error = (patch_means(all_frames(info.path)) - COLOURS).abs() * 127.5
    assert error.max() < tolerance


def test_png_is_lossless_to_eight_bits(tmp_path):
    frames = noise(3, 20)
    write_video(tmp_path / "a", [frames], frame_rate=8, format="png")
    assert (all_frames(tmp_path / "a") - frames).abs().max() <= 0.5 / 127.5 + 1e-6


@pytest.mark.parametrize("format", ["mp4", "webm"])
def test_files_say_bt709_limited_and_faststart_needs_no_seek(tmp_path, format):
    info = write_video(tmp_path / f"a.{format}", [colour_patches()], frame_rate=8)
    with av.open(str(info.path)) as container:
        context = container.streams.video[0].codec_context
        tags = context.colorspace, context.color_primaries, context.color_trc, context.color_range
        assert [int(tag) for tag in tags] == [1, 1, 1, 1]
        assert context.pix_fmt == "yuv420p"
    content = info.path.read_bytes()
    if format == "mp4":
        assert 0 < content.index(b"moov") < content.index(b"mdat")
        assert b"moof" not in content


@pytest.mark.parametrize(
    ("matrix", "tagged", "full", "height"),
    [
        ("ITU709", True, True, 32),
        ("ITU709", True, False, 32),
        ("ITU601", True, True, 32),
        ("ITU601", True, False, 32),
        ("ITU601", True, False, 736),
        ("ITU601", False, False, 32),  # untagged: BT.601 when small
        ("ITU709", False, False, 736),  # and BT.709 when high definition
    ],
)
def test_reading_honours_matrix_and_range_and_guesses_by_size(
    tmp_path, matrix, tagged, full, height
):
    path = tmp_path / "a.mp4"
    image = colour_patches()[0].add(1).mul(127.5).byte().permute(1, 2, 0).contiguous().numpy()
    image = np.tile(image, (height // 32, 1, 1))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8, options={"crf": "5"})
        stream.height, stream.width = image.shape[:2]
        stream.pix_fmt = "yuv444p"
        frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(
            format="yuv444p",
            dst_colorspace=matrix,
            src_color_range="JPEG",
            dst_color_range="JPEG" if full else "MPEG",
        )
        for target in (frame, stream.codec_context):
            target.colorspace = {"ITU709": 1, "ITU601": 6}[matrix] if tagged else 2
            target.color_range = (2 if full else 1) if tagged else 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    error = (patch_means(all_frames(path)) - COLOURS).abs() * 127.5
    assert error.max() < 3


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
    images = marked_frames(17).add(1).mul(127.5).byte().permute(0, 2, 3, 1).contiguous().numpy()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg" if suffix == "avi" else "libx264", rate=25)
        stream.height, stream.width = images.shape[1:3]
        stream.pix_fmt = "yuvj420p" if suffix == "avi" else "yuv420p"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    info = open_video(path)
    assert (info.frames, info.frame_rate) == (17, 25)
    assert numbers(all_frames(path)) == list(range(17))
    assert numbers(all_frames(path, start=15)) == [15, 16]


# Animated images and folders.


def test_animations_with_variable_durations_and_alpha(tmp_path):
    frames = marked_frames(5).add(1).mul(127.5).byte().permute(0, 2, 3, 1).numpy()
    pictures = [Image.fromarray(frame) for frame in frames]
    durations = [40, 80, 120, 200, 60]
    for suffix, options in [("gif", {}), ("webp", {"lossless": True}), ("png", {})]:
        path = tmp_path / f"a.{suffix}"
        pictures[0].save(
            path, save_all=True, append_images=pictures[1:], duration=durations, loop=0, **options
        )
        info = open_video(path)
        assert (info.frames, info.frame_rate) == (5, 10)
        assert numbers(all_frames(path)) == [0, 1, 2, 3, 4]
        assert numbers(all_frames(path, start=3)) == [3, 4]
    clear = Image.new("RGBA", (8, 8), (255, 255, 255, 0))
    clear.save(tmp_path / "clear.webp", lossless=True, exact=True)
    assert all_frames(tmp_path / "clear.webp").max() == -1


def test_folders_are_ordered_by_number_and_must_agree_in_size(tmp_path):
    frames = marked_frames(12, 8, 8).add(1).mul(127.5).byte().permute(0, 2, 3, 1).numpy()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"shot_{number}.png")
    assert numbers(all_frames(tmp_path)) == list(range(12))
    assert open_video(tmp_path).frame_rate == 24
    Image.new("RGB", (9, 8)).save(tmp_path / "shot_12.png")
    with pytest.raises(ValueError, match="9x8.*8x8"):
        all_frames(tmp_path)


# Metadata and sound.


@pytest.mark.parametrize("format", FORMATS)
def test_metadata_round_trips_with_unicode_and_more_than_a_megabyte(tmp_path, format):
    metadata = {"prompt": LONG_JSON, "workflow": '{"nodes": [], "title": "Füchse 🦊"}'}
    path = path_for(tmp_path, format)
    write_video(path, [marked_frames(3)], frame_rate=8, format=format, metadata=metadata)
    found = read_metadata(path)
    assert {key: found[key] for key in metadata} == metadata
    assert json.loads(found["prompt"])["text"].startswith("Ein Fuchs")
    assert numbers(all_frames(path)) == [0, 1, 2]


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
    write_video(path, [marked_frames(16)], frame_rate=8, audio=AudioClip(tone, rate))
    assert open_video(path).frames == 16
    sound = read_audio(path)
    assert sound.sample_rate == rate and sound.waveform.shape[0] == 2
    assert abs(sound.waveform.shape[1] / rate - 2) < 0.05
    middle = sound.waveform[0, rate // 2 : rate // 2 + rate]
    peak = torch.fft.rfft(middle).abs().argmax()
    assert abs(int(peak) - 440) <= 1 and 0.3 < middle.abs().max() < 0.7


def test_silent_files_have_no_sound_and_gif_refuses_it(tmp_path):
    write_video(tmp_path / "a.mp4", [marked_frames(2)], frame_rate=8)
    assert read_audio(tmp_path / "a.mp4") is None
    with pytest.raises(ValueError, match="sound"):
        write_video(
            tmp_path / "a.gif",
            [marked_frames(2)],
            frame_rate=8,
            audio=AudioClip(torch.zeros(1, 9), 8000),
        )


# Streaming.


@pytest.mark.parametrize("format", ["mp4", "gif"])
def test_two_thousand_frames_are_never_held_together(tmp_path, format):
    alive: list[weakref.ref] = []
    most = 0

    def chunks():
        nonlocal most
        for first in range(0, 2000, 20):
            most = max(most, sum(ref() is not None for ref in alive))
            chunk = marked_frames(20, 16, 16, first)
            alive.append(weakref.ref(chunk))
            yield chunk
            del chunk

    info = write_video(path_for(tmp_path, format), chunks(), frame_rate=25, format=format)
    assert info.frames == open_video(info.path).frames == 2000
    assert most == 0  # when a chunk is asked for, the one before is gone


def test_reading_holds_one_chunk(tmp_path):
    write_video(tmp_path / "a.mp4", marked_frames(200, 16, 16).split(50), frame_rate=25)
    before: weakref.ref | None = None
    for chunk in read_frames(tmp_path / "a.mp4", chunk=10):
        assert len(chunk) == 10
        assert before is None or before() is None
        before = weakref.ref(chunk)
        del chunk


def test_the_file_under_way_can_be_played_at_any_moment(tmp_path):
    copies = []

    def chunks():
        for first in range(0, 160, 16):
            yield marked_frames(16, first=first)
            for suffix in ("mp4", "webm"):
                partial = tmp_path / f"a.partial.{suffix}"
                if partial.exists() and first == 144:
                    copies.append(tmp_path / f"crash.{suffix}")
                    copies[-1].write_bytes(partial.read_bytes())

    for suffix in ("mp4", "webm"):
        write_video(tmp_path / f"a.{suffix}", chunks(), frame_rate=8)
    assert [copy.suffix for copy in copies] == [".mp4", ".webm"]
    for copy in copies:
        frames = all_frames(copy)
        assert len(frames) >= 96
        assert numbers(frames) == [n % 32 for n in range(len(frames))]


# Nothing finished is lost.


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("stop", [RuntimeError("out of memory"), KeyboardInterrupt()])
def test_an_interrupted_run_leaves_a_playable_partial_file(tmp_path, format, stop):
    def chunks():
        yield marked_frames(16)
        yield marked_frames(5, first=16)
        raise stop

    path = path_for(tmp_path, format)
    with pytest.raises(type(stop)):
        write_video(path, chunks(), frame_rate=8, format=format, metadata={"prompt": "{}"})
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")
    assert [p.name for p in tmp_path.iterdir()] == [partial.name]
    assert open_video(partial).frames == 21
    assert numbers(all_frames(partial)) == list(range(21))
    assert read_metadata(partial)["prompt"] == "{}"
    if format == "mp4":
        content = partial.read_bytes()
        assert content.index(b"moov") < content.index(b"mdat")


def test_a_long_interrupted_gif_stays_as_it_was_collected(tmp_path, monkeypatch):
    """Making it into a gif would take longer than somebody waits who has pressed Ctrl-C."""
    monkeypatch.setattr("videoldm.core.media.writing.AT_ONCE", 10 * 32 * 32)

    def chunks():
        yield marked_frames(11, 32, 32)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(tmp_path / "a.gif", chunks(), frame_rate=8)
    assert [path.name for path in tmp_path.iterdir()] == ["a.partial.mkv"]
    assert numbers(all_frames(tmp_path / "a.partial.mkv")) == list(range(11))


def test_a_failed_run_leaves_the_older_finished_file_alone(tmp_path):
    def broken():
        yield marked_frames(2)
        raise RuntimeError

    path = tmp_path / "a.mp4"
    write_video(path, [marked_frames(9)], frame_rate=8)
    with pytest.raises(RuntimeError):
        write_video(path, broken(), frame_rate=8)
    assert open_video(path).frames == 9


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


@pytest.mark.parametrize(
    ("format", "place"),
    [("mp4", "a.partial.mp4"), ("webm", "a.partial.webm"), ("gif", "a.partial.mkv")],
)
def test_a_full_disk_is_one_sentence_and_keeps_what_was_written(tmp_path, format, place):
    path = tmp_path / f"a.{format}"
    with largest_file(400_000), pytest.raises(OSError) as caught:
        write_video(path, noise(400, 64).split(8), frame_rate=8, format=format, quality=30)
    sentence = str(caught.value)
    assert sentence.startswith(f"{path} cannot be written, ") and "\n" not in sentence
    assert not path.exists() and [p.name for p in tmp_path.iterdir()] == [place]
    kept = len(all_frames(tmp_path / place))
    assert kept >= 8 and f"{kept} of " in sentence and place in sentence


def test_a_full_disk_while_the_index_is_moved_keeps_all_frames(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("videoldm.core.media.container._copy_index_first", full)
    with pytest.raises(OSError, match="20 of 20 frames kept.*no space left on device"):
        write_video(tmp_path / "a.mp4", [marked_frames(20)], frame_rate=8)
    assert numbers(all_frames(tmp_path / "a.partial.mp4")) == list(range(20))


def test_a_full_disk_with_png_keeps_whole_pictures(tmp_path, monkeypatch):
    save = Image.Image.save

    def limited(image, path, **options):
        if Path(path).name == "00003.png":
            Path(path).write_bytes(b"half")
            raise OSError(28, "No space left on device")
        save(image, path, **options)

    monkeypatch.setattr(Image.Image, "save", limited)
    with pytest.raises(OSError, match="3 of 3 frames kept"):
        write_video(tmp_path / "a", [marked_frames(9)], frame_rate=8, format="png")
    assert numbers(all_frames(tmp_path / "a.partial")) == [0, 1, 2]


def test_a_place_that_cannot_be_written_is_refused_before_work(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    asked = iter([marked_frames(1)])
    with pytest.raises(OSError, match="a.mp4 cannot be written, 0 frames kept"):
        write_video(tmp_path / "file" / "a.mp4", asked, frame_rate=8)
    assert next(asked) is not None  # no chunk was asked for


# Bad input.


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "avi"}, "'avi'.*mp4"),
        ({"quality": 52}, "quality 52"),
        ({"metadata": {"prompt": {}}}, "'prompt' is dict"),
        ({"audio": AudioClip(torch.zeros(1, 2, 9), 8000)}, r"\(1, 2, 9\)"),
        ({"frame_rate": 0}, "frame rate 0"),
        ({"format": "gif", "frame_rate": 60}, "50 frames per second, not 60"),
        ({"chunks": []}, "no frames"),
        ({"chunks": [torch.zeros(3, 8, 8)]}, r"\(3, 8, 8\)"),
        ({"chunks": [torch.zeros(2, 5, 8, 8)]}, r"\(2, 5, 8, 8\)"),
        ({"chunks": [torch.zeros(2, 2, 3, 8, 8)]}, r"\(2, 2, 3, 8, 8\)"),
        ({"chunks": [torch.zeros(2, 3, 8, 8, dtype=torch.uint8)]}, "uint8"),
        (
            {"chunks": [torch.zeros(2, 3, 8, 8), torch.full((1, 3, 8, 8), torch.nan)]},
            "frame 2.*NaN",
        ),
        ({"chunks": [torch.zeros(2, 3, 8, 8), torch.zeros(1, 3, 8, 16)]}, "frame 2 is 16x8.*8x8"),
    ],
)
def test_bad_settings_and_frames_are_named(tmp_path, change, words):
    settings = {"chunks": [marked_frames(2)], "frame_rate": 8} | change
    with pytest.raises(ValueError, match=words):
        write_video(tmp_path / "a.mp4", settings.pop("chunks"), **settings)
    assert not (tmp_path / "a.mp4").exists()


def test_a_folder_with_content_is_never_overwritten(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("x")
    with pytest.raises(FileExistsError, match="mine"):
        write_video(tmp_path / "mine", [marked_frames(1)], frame_rate=8, format="png")


@pytest.mark.parametrize("format", ["mp4", "webm", "gif", "webp"])
def test_truncated_files_are_value_errors_that_say_how_many_frames(tmp_path, format):
    path = tmp_path / f"a.{format}"
    if format == "webp":
        pictures = [Image.fromarray((f * 255).byte().numpy()) for f in torch.rand(40, 32, 32, 3)]
        pictures[0].save(path, save_all=True, append_images=pictures[1:], lossless=True)
    else:
        write_video(path, noise(40, 32).split(8), frame_rate=8)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * 0.6)])
    # Pillow's WebP decoder refuses a cut file as a whole, so there is no number to tell.
    words = r"a\.webp is .*truncated" if format == "webp" else r"a\.\w+ is .*truncated.* \d+"
    with pytest.raises(ValueError, match=words) as caught:
        all_frames(path)
    assert "\n" not in str(caught.value)


def test_corruption_in_the_middle_yields_the_frames_before_it(tmp_path):
    path = tmp_path / "a"
    write_video(path, [marked_frames(9)], frame_rate=8, format="png")
    (path / "00005.png").write_bytes(b"\x89PNG\r\n\x1a\n rubbish")
    frames = []
    with pytest.raises(ValueError, match="00005.png is corrupt"):
        for chunk in read_frames(path, chunk=4):
            frames += numbers(chunk)
    assert frames == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "content", [b"", b"not a video at all" * 50, b"GIF89a", b"\x89PNG\r\n\x1a\n"]
)
def test_rubbish_is_a_value_error_that_names_the_file(tmp_path, content):
    path = tmp_path / "rubbish.mp4"
    path.write_bytes(content)
    for read in (open_video, all_frames, read_metadata):
        with pytest.raises(ValueError, match="rubbish.mp4"):
            read(path)


def test_missing_files_empty_folders_and_mere_sound_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.mp4"):
        open_video(tmp_path / "nowhere.mp4")
    with pytest.raises(ValueError, match="no images"):
        open_video(tmp_path)
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        block = av.AudioFrame.from_ndarray(
            np.zeros((1, 8000), np.float32), format="fltp", layout="mono"
        )
        block.sample_rate, block.pts = 8000, 0
        container.mux(stream.encode(block))
        container.mux(stream.encode(None))
    with pytest.raises(ValueError, match="no video track"):
        open_video(path)


# VideoStream.


def test_a_stream_starts_over_and_saves_itself(tmp_path):
    stream = VideoStream.from_tensor(marked_frames(21), 12.5, chunk=8)
    assert [len(chunk) for chunk in stream.chunks()] == [8, 8, 5]
    assert torch.equal(stream.frames_tensor(), marked_frames(21))
    info = stream.save(tmp_path / "a.mp4", metadata={"prompt": "{}"})
    again = VideoStream.from_file(info.path)
    assert (again.frames, again.frame_rate, again.width, again.height) == (21, 12.5, 48, 32)
    assert numbers(again.frames_tensor()) == numbers(again.frames_tensor()) == list(range(21))
    again.save(tmp_path / "a.gif")
    assert open_video(tmp_path / "a.gif").frames == 21


def test_a_stream_keeps_its_promises_or_says_which_it_broke():
    short = VideoStream(lambda: iter([marked_frames(3)]), Fraction(8), 4, 48, 32)
    with pytest.raises(ValueError, match="3 frames but 4"):
        short.frames_tensor()
    small = VideoStream(lambda: iter([marked_frames(3)]), Fraction(8), 3, 64, 32)
    with pytest.raises(ValueError, match="48x32.*64x32"):
        small.frames_tensor()


def test_a_stream_takes_its_sound_along(tmp_path):
    sound = AudioClip(torch.rand(1, 16_000) - 0.5, 8000)
    stream = VideoStream.from_tensor(marked_frames(16), 8, audio=sound)
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
