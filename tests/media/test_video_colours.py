"""Colours in video files survive, and are tagged so that players show them correctly."""

from __future__ import annotations

import av
import numpy as np
import pytest
import torch
from media_toys import all_frames, noise
from videoldm.core.media.files import write_video

COLOURS = (
    torch.tensor(
        [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1], [1, 0, 1], [1, 1, 1], [0, 0, 0]]
    ).mul(2.0)
    - 1
)


def colour_patches() -> torch.Tensor:
    row = COLOURS.T.reshape(3, 1, -1).repeat_interleave(32, 1).repeat_interleave(32, 2)
    return row.expand(4, -1, -1, -1)


def patch_means(frames: torch.Tensor) -> torch.Tensor:
    """Mean colour [patches, 3] in the middle of each patch, away from the subsampled edges."""
    return torch.stack(
        [frames[..., 8:24, 32 * n + 8 : 32 * n + 24].mean((0, 2, 3)) for n in range(len(COLOURS))]
    )


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
