"""Contact sheets: evenly spaced frames, true pixels, bounded memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from videoldm.core.media.contact_sheet import GAP, contact_sheet, even_positions, sheet_from_video
from videoldm.core.media.files import write_video


def ramp(count: int, size: int = 8) -> torch.Tensor:
    """Frames whose grey level is their number."""
    levels = torch.arange(count) / 127.5 - 1
    return levels.reshape(-1, 1, 1, 1).expand(-1, 3, size, size).contiguous()


def levels(sheet, count: int, size: int = 8, top: int = GAP) -> list[int]:
    pixels = np.asarray(sheet)
    return [
        int(pixels[top + size // 2, GAP + n * (size + GAP) + size // 2, 0]) for n in range(count)
    ]


@pytest.mark.parametrize(("frames", "count"), [(61, 8), (16, 8), (9, 8), (100, 3), (5, 2)])
def test_positions_are_even_distinct_and_span_the_clip(frames, count):
    positions = even_positions(frames, count)
    steps = np.diff(positions)
    assert positions[0] == 0 and positions[-1] == frames - 1 and len(positions) == count
    assert steps.min() >= 1 and steps.max() - steps.min() <= 1


def test_short_clips_show_every_frame_and_one_column_shows_the_first():
    assert even_positions(3, 8) == [0, 1, 2]
    assert even_positions(9, 1) == [0]


def test_a_row_shows_the_frames_at_their_positions():
    sheet = contact_sheet([ramp(61)], frames_per_row=4)
    assert sheet.size == (4 * 8 + 3 * GAP + 2 * GAP, 8 + 2 * GAP)
    assert levels(sheet, 4) == [0, 20, 40, 60]


def test_iterables_of_chunks_give_nearly_the_same_row_and_are_thinned():
    whole = levels(contact_sheet([ramp(250)]), 8)
    chunked = levels(contact_sheet([iter(ramp(250).split(16))]), 8)
    assert (chunked[0], chunked[-1]) == (0, 249)
    assert max(abs(a - b) for a, b in zip(whole, chunked, strict=True)) <= 2
    assert levels(contact_sheet([iter(ramp(40)[None].split(7, dim=1))]), 8) == levels(
        contact_sheet([ramp(40)]), 8
    )


def test_rows_of_different_sizes_stand_under_each_other_with_captions():
    plain = contact_sheet([ramp(8), ramp(4, 16)])
    assert plain.height == (8 + GAP) + (16 + GAP) + GAP
    captioned = contact_sheet([ramp(8), ramp(4, 16)], labels=["a red circle ü", ""])
    assert captioned.height > plain.height
    captions = np.asarray(captioned)[GAP : captioned.height - plain.height + GAP]
    assert (captions < 128).any()  # ink


def test_long_captions_are_shortened_not_overflowing():
    sheet = contact_sheet([ramp(8)], labels=["long " * 200])
    assert sheet.width == contact_sheet([ramp(8)]).width


def test_whole_scales_repeat_pixels():
    frame = torch.rand(1, 3, 4, 4) * 2 - 1
    one = np.asarray(contact_sheet([frame]))[GAP : GAP + 4, GAP : GAP + 4]
    three = np.asarray(contact_sheet([frame], scale=3))[GAP : GAP + 12, GAP : GAP + 12]
    assert (one.repeat(3, 0).repeat(3, 1) == three).all()
    assert contact_sheet([frame], scale=0.5).width == 2 + 2 * GAP


def test_a_file_becomes_rows_that_cover_it(tmp_path):
    write_video(tmp_path / "clip", [ramp(61, 32)], frame_rate=8, format="png")
    sheet = sheet_from_video(tmp_path / "clip", frames_per_row=4, rows=2)
    top = sheet.height - 2 * (32 + GAP)
    assert levels(sheet, 4, 32, top) == [0, 9, 17, 26]
    assert levels(sheet, 4, 32, top + 32 + GAP) == [34, 43, 51, 60]


@pytest.mark.parametrize(
    ("clips", "options", "words"),
    [
        ([], {}, "not 0"),
        ([ramp(2)], {"labels": ["a", "b"]}, "2 labels.*1 video$"),
        ([ramp(2)], {"frames_per_row": 0}, "frames_per_row 0"),
        ([torch.zeros(2, 1, 8, 8)], {}, r"\(2, 1, 8, 8\)"),
        ([iter([])], {}, "0 frames"),
    ],
)
def test_what_cannot_be_shown_is_named(clips, options, words):
    with pytest.raises(ValueError, match=words):
        contact_sheet(clips, **options)
