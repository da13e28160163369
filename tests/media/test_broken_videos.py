"""Invalid settings and broken files are refused in one sentence that says why."""

from __future__ import annotations

import av
import numpy as np
import pytest
import torch
from media_toys import all_frames, marked, noise, numbers_of
from PIL import Image
from videoldm.core.media.files import AudioClip, open_video, read_frames, read_metadata, write_video


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
    settings = {"chunks": [marked(range(2))], "frame_rate": 8} | change
    with pytest.raises(ValueError, match=words):
        write_video(tmp_path / "a.mp4", settings.pop("chunks"), **settings)
    assert not (tmp_path / "a.mp4").exists()


def test_a_folder_with_content_is_never_overwritten(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("x")
    with pytest.raises(FileExistsError, match="mine"):
        write_video(tmp_path / "mine", [marked(range(1))], frame_rate=8, format="png")


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
    # Pillow's WebP decoder refuses a truncated file as a whole, so no frame count is known.
    words = r"a\.webp is .*truncated" if format == "webp" else r"a\.\w+ is .*truncated.* \d+"
    with pytest.raises(ValueError, match=words) as caught:
        all_frames(path)
    assert "\n" not in str(caught.value)


def test_corruption_in_the_middle_yields_the_frames_before_it(tmp_path):
    path = tmp_path / "a"
    write_video(path, [marked(range(9))], frame_rate=8, format="png")
    (path / "00005.png").write_bytes(b"\x89PNG\r\n\x1a\n rubbish")
    frames = []
    with pytest.raises(ValueError, match="00005.png is corrupt"):
        for chunk in read_frames(path, chunk=4):
            frames += numbers_of(chunk)
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
