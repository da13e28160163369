"""Writing and reading in bounded memory; what a stopped or failed run leaves behind."""

from __future__ import annotations

import weakref
from pathlib import Path

import pytest
from media_toys import all_frames, largest_file, marked, noise, numbers_of, path_for
from PIL import Image
from videoldm.core.media.files import FORMATS, open_video, read_frames, read_metadata, write_video

# Streaming.


@pytest.mark.parametrize("format", ["mp4", "gif"])
def test_two_thousand_frames_are_never_held_together(tmp_path, format):
    alive: list[weakref.ref] = []
    most = 0

    def chunks():
        nonlocal most
        for first in range(0, 2000, 20):
            most = max(most, sum(ref() is not None for ref in alive))
            chunk = marked(range(first, first + 20), 16, 16)
            alive.append(weakref.ref(chunk))
            yield chunk
            del chunk

    info = write_video(path_for(tmp_path, format), chunks(), frame_rate=25, format=format)
    assert info.frames == open_video(info.path).frames == 2000
    assert most == 0  # when a chunk is asked for, the one before is gone


def test_reading_holds_one_chunk(tmp_path):
    write_video(tmp_path / "a.mp4", marked(range(200), 16, 16).split(50), frame_rate=25)
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
            yield marked(range(first, first + 16))
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
        assert numbers_of(frames) == [n % 32 for n in range(len(frames))]


# Nothing finished is lost.


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("stop", [RuntimeError("out of memory"), KeyboardInterrupt()])
def test_an_interrupted_run_leaves_a_playable_partial_file(tmp_path, format, stop):
    def chunks():
        yield marked(range(16))
        yield marked(range(16, 21))
        raise stop

    path = path_for(tmp_path, format)
    with pytest.raises(type(stop)):
        write_video(path, chunks(), frame_rate=8, format=format, metadata={"prompt": "{}"})
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")
    assert [p.name for p in tmp_path.iterdir()] == [partial.name]
    assert open_video(partial).frames == 21
    assert numbers_of(all_frames(partial)) == list(range(21))
    assert read_metadata(partial)["prompt"] == "{}"
    if format == "mp4":
        content = partial.read_bytes()
        assert content.index(b"moov") < content.index(b"mdat")


def test_a_long_interrupted_gif_stays_as_it_was_collected(tmp_path, monkeypatch):
    """Converting it to a GIF would take longer than users wait after pressing Ctrl-C."""
    monkeypatch.setattr("videoldm.core.media.writing.AT_ONCE", 10 * 32 * 32)

    def chunks():
        yield marked(range(11), 32, 32)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(tmp_path / "a.gif", chunks(), frame_rate=8)
    assert [path.name for path in tmp_path.iterdir()] == ["a.partial.mkv"]
    assert numbers_of(all_frames(tmp_path / "a.partial.mkv")) == list(range(11))


def test_a_failed_run_leaves_the_older_finished_file_alone(tmp_path):
    def broken():
        yield marked(range(2))
        raise RuntimeError

    path = tmp_path / "a.mp4"
    write_video(path, [marked(range(9))], frame_rate=8)
    with pytest.raises(RuntimeError):
        write_video(path, broken(), frame_rate=8)
    assert open_video(path).frames == 9


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
        write_video(tmp_path / "a.mp4", [marked(range(20))], frame_rate=8)
    assert numbers_of(all_frames(tmp_path / "a.partial.mp4")) == list(range(20))


def test_a_full_disk_with_png_keeps_whole_pictures(tmp_path, monkeypatch):
    save = Image.Image.save

    def limited(image, path, **options):
        if Path(path).name == "00003.png":
            Path(path).write_bytes(b"half")
            raise OSError(28, "No space left on device")
        save(image, path, **options)

    monkeypatch.setattr(Image.Image, "save", limited)
    with pytest.raises(OSError, match="3 of 3 frames kept"):
        write_video(tmp_path / "a", [marked(range(9))], frame_rate=8, format="png")
    assert numbers_of(all_frames(tmp_path / "a.partial")) == [0, 1, 2]


def test_a_place_that_cannot_be_written_is_refused_before_work(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    asked = iter([marked(range(1))])
    with pytest.raises(OSError, match="a.mp4 cannot be written, 0 frames kept"):
        write_video(tmp_path / "file" / "a.mp4", asked, frame_rate=8)
    assert next(asked) is not None  # no chunk was asked for
