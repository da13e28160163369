"""Selecting frames by number, by time and at a forced rate, with the sound that goes with them."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from media_toys import RATE, marked, numbers_of, ramp, time_of, timed_file
from videoldm.core.media.files import (
    AudioClip,
    Selection,
    VideoInfo,
    VideoStream,
    exact_frame_rate,
    open_video,
    write_video,
)
from videoldm.core.media.selection import is_variable, select_frames
from videoldm.core.media.timing import Timing

NTSC = Fraction(24000, 1001)
# Pictures of 20 to 300 ms: 24 of them in 2.4 s.
UNEVEN = [0, 20, 40, 60, 360, 400, 440, 480, 500, 800, 900, 950, 1000, 1100, 1250, 1300, 1400, 1500,
          1700, 1800, 1900, 2000, 2100, 2300]  # fmt: skip
END = 2400


def shown_at(second: float) -> int:
    return max(n for n, time in enumerate(UNEVEN) if time <= 1000 * second + 1e-6)


def info(frames: int, rate: Fraction, timing: Timing | None = None) -> VideoInfo:
    return VideoInfo("a.mp4", frames, 48, 32, rate, timing)


def frames_of(path, **wanted) -> torch.Tensor:
    stream = VideoStream.from_selection(open_video(path), Selection(**wanted))
    frames = stream.frames_tensor()
    assert len(frames) == stream.frames
    return frames


@pytest.fixture(scope="module", params=["mp4", "mkv"])
def uneven(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("uneven") / f"a.{request.param}"
    return timed_file(path, UNEVEN, END - UNEVEN[-1])


# Times.


def test_the_times_of_a_file_are_those_it_was_written_with(uneven):
    found = open_video(uneven)
    assert [round(1000 * found.timing.at(n)) for n in range(found.frames)] == UNEVEN
    assert abs(1000 * found.timing.seconds - END) <= 1 and is_variable(found)


@pytest.mark.parametrize("rate", [2, 8, NTSC, 25, 60])
def test_a_forced_rate_gives_the_picture_that_is_shown_at_each_time(uneven, rate):
    rate = Fraction(rate)
    frames = frames_of(uneven, frame_rate=rate)
    assert abs(len(frames) / rate - Fraction(END, 1000)) <= Fraction(1, 2) / rate
    assert numbers_of(frames) == [shown_at(n / rate) for n in range(len(frames))]


@pytest.mark.parametrize(("start", "lasts"), [(0.36, 0.44), (0.37, 0.5), (1.999, 0.2), (0, 2.4)])
def test_seconds_of_an_uneven_file_are_its_own(uneven, start, lasts):
    wanted = {"start_time": Fraction(str(start)), "duration": Fraction(str(lasts))}
    first = shown_at(start)
    end = UNEVEN[first] + 1000 * lasts
    expected = [n for n in range(first, len(UNEVEN)) if UNEVEN[n] < end - 0.5]
    assert numbers_of(frames_of(uneven, **wanted)) == expected


@pytest.mark.parametrize("rate", [None, Fraction(10), NTSC])
@pytest.mark.parametrize("start", ["0.05", "0.9", "1.75"])
def test_sound_is_that_of_the_chosen_frames(uneven, rate, start):
    """It begins when the first frame is shown, to a sample, and is as long as the frames."""
    wanted = Selection(frame_rate=rate, start_time=Fraction(start), duration=Fraction(1, 2))
    stream = VideoStream.from_selection(open_video(uneven), wanted)
    waveform, sampled = stream.audio()
    assert sampled == RATE and waveform.shape[1] == round(stream.seconds * RATE)
    begin = UNEVEN[shown_at(float(start))] / 1000
    if rate is not None:
        begin = float(int(Fraction(start) * rate) / rate)
    assert abs(time_of(waveform[0, 0]) - begin) < 2e-3
    lasts = time_of(waveform[0, -1]) - time_of(waveform[0, 0])
    assert abs(lasts - float(stream.seconds)) < 2e-3


def test_the_rate_of_an_uneven_part_is_its_own_average(uneven):
    chosen = select_frames(open_video(uneven), Selection(start=4, count=5))
    assert abs(float(chosen.seconds) - (UNEVEN[9] - UNEVEN[4]) / 1000) < 1e-9


@pytest.mark.parametrize("rate", [8, 12.5, 23.976, 29.97, 59.94])
@pytest.mark.parametrize("suffix", ["mp4", "webm", "gif"])
def test_the_rate_that_a_file_has_changes_nothing(tmp_path, rate, suffix):
    """Also where its timestamps are whole milliseconds or hundredths of a second."""
    if suffix == "gif" and rate > 50:
        pytest.skip("no GIF is so fast")
    path = tmp_path / f"a.{suffix}"
    rate = exact_frame_rate(rate)
    write_video(path, [marked(range(30))], frame_rate=rate)
    assert not is_variable(open_video(path))
    assert numbers_of(frames_of(path, frame_rate=rate)) == list(range(30))
    assert numbers_of(frames_of(path, frame_rate=2 * rate)) == [n // 2 for n in range(60)]
    assert numbers_of(frames_of(path, frame_rate=rate / 3)) == list(range(0, 30, 3))


# Numbers.


@given(
    st.integers(1, 300), st.sampled_from([Fraction(8), NTSC, Fraction(25), Fraction(30000, 1001)]),
    st.sampled_from([None, Fraction(5), Fraction(8), NTSC, Fraction(50)]), st.integers(1, 9),
    st.integers(0, 40), st.fractions(Fraction(1, 10), 10),
)  # fmt: skip
def test_what_is_chosen_is_there_in_order_and_long_enough(
    frames, rate, forced, stride, start, duration
):
    whole = info(frames, rate)
    laid_out = max(1, int(frames / rate * forced + Fraction(1, 2))) if forced else frames
    part = {"frame_rate": forced, "stride": stride}
    if start >= laid_out:
        with pytest.raises(ValueError, match=f"so none at start {start}"):
            select_frames(whole, Selection(start=start, **part))
        return
    chosen = select_frames(whole, Selection(start=start, **part))
    assert chosen.frames == len(range(start, laid_out, stride))
    assert list(chosen.indices) == sorted(chosen.indices)
    assert 0 <= chosen.indices[0] and chosen.indices[-1] < frames
    paced = forced or rate
    assert chosen.frame_rate == paced / stride and chosen.begin == start / paced
    if duration < Fraction(frames) / rate - chosen.begin:
        timed = select_frames(whole, Selection(start=start, duration=duration, **part))
        assert 0 <= timed.seconds - duration < stride / paced


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"start": 5, "start_time": Fraction(1)}, "start 5 and start_time 1 both"),
        ({"count": 5, "duration": Fraction(1)}, "count 5 and duration 1 both"),
        ({"start_time": Fraction(2)}, "lasts 2 s, so nothing is at start_time 2"),
        ({"duration": Fraction(3)}, r"3 s wanted .* has 2 s \(of 2\) from 0 s on"),
        ({"frame_rate": Fraction(4), "count": 9}, r"9 frames wanted .* 8 \(of 8 at 4 per second\)"),
        ({"frame_rate": Fraction(4), "start": 8}, "8 frames at 4 per second, so none at start 8"),
    ],
)
def test_what_is_not_there_is_refused_with_both_numbers(wanted, words):
    with pytest.raises(ValueError, match=words):
        select_frames(info(16, Fraction(8)), Selection(**wanted))


@pytest.mark.parametrize("rate", [23.976, 24000 / 1001 / 7, 30000 / 1001 / 5, 12.5, 60 / 7])
def test_rates_that_strides_leave_come_back_from_floats(rate):
    assert abs(float(exact_frame_rate(rate)) - rate) < 1e-3
    stepped = Fraction(30000, 1001) / 7
    assert exact_frame_rate(float(stepped)) == stepped


# Back and forth, parts.


@pytest.mark.parametrize("count", [1, 2, 3, 17])
def test_ping_pong_goes_back_without_the_ends(tmp_path, count):
    pixels = torch.rand(count, 3, 8, 10) * 2 - 1
    sound = AudioClip(ramp(count / 8), RATE)
    stream = VideoStream.from_tensor(pixels, 8, audio=sound, chunk=5).ping_pong(tmp_path / "new")
    expected = torch.cat([pixels, pixels[1:-1].flip(0)])
    for _ in range(2):  # A stream can be read again.
        torch.testing.assert_close(stream.frames_tensor(), expected, atol=2e-5, rtol=0)
    waveform = stream.audio().waveform
    assert stream.frames == len(expected)
    assert waveform.shape[1] == round(stream.seconds * RATE)
    if count > 2:
        middle = round(count / 8 * RATE)
        assert torch.equal(waveform[:, :middle], sound.waveform)
        assert abs(time_of(waveform[0, -1]) - 1 / 8) < 1e-3
    assert not list(tmp_path.rglob("*.*"))


def test_a_part_of_a_video_is_made_when_it_is_asked_for():
    asked = []

    def source():
        asked.append(1)
        return iter(marked(range(20)).split(6))

    audio = AudioClip(ramp(2.5), RATE)
    video = VideoStream(source, Fraction(8), 20, 48, 32, lambda: audio)
    part = video.part(5, 9)
    assert not asked and part.frames == 9
    assert numbers_of(part.frames_tensor()) == list(range(5, 14))
    sound = part.audio().waveform
    assert sound.shape[1] == round(9 / 8 * RATE) and abs(time_of(sound[0, 0]) - 5 / 8) < 1e-3
    with pytest.raises(ValueError, match="frames 15 to 21 are not in a video of 20"):
        video.part(15, 6)
