import pytest
import torch
from model_toys import normal
from videoldm.core.tasks.frame_stream import FrameStream, check_finite

VIDEO = normal(2, 11, 3, 2, 2)


@pytest.mark.parametrize("size", [1, 3, 11])
def test_frames_are_found_by_their_number_however_they_came(size):
    stream = FrameStream(iter(VIDEO.split(size, dim=1)))
    assert stream.read_until(7) and torch.equal(stream.frames(2, 7), VIDEO[:, 2:7])
    stream.release(5)
    assert stream.read_until(11) and not stream.read_until(12)
    assert stream.stop == 11 and torch.equal(stream.frames(5, 11), VIDEO[:, 5:])


def test_no_more_is_read_than_asked_for():
    read = []
    stream = FrameStream(read.append(k) or VIDEO[:, k : k + 1] for k in range(11))
    stream.read_until(4)
    assert read == [0, 1, 2, 3]


def test_frames_can_be_forgotten_before_they_come():
    stream = FrameStream(iter(VIDEO.split(2, dim=1)))
    stream.release(7)
    assert stream.read_until(9)
    with pytest.raises(ValueError, match="Frames 6 to 8 were requested, but only 7 to 9 are held"):
        stream.frames(6, 9)
    assert torch.equal(stream.frames(7, 9), VIDEO[:, 7:9])


def test_chunks_of_another_size_are_refused():
    stream = FrameStream([VIDEO, VIDEO[..., :1]])
    with pytest.raises(ValueError, match=r"\[2, 3, 2, 1\] follows frames of shape \[2, 3, 2, 2\]"):
        stream.read_until(12)


def test_the_first_frame_with_a_value_that_is_not_a_number_is_named():
    video = VIDEO.clone()
    assert check_finite(video) is video
    video[1, 4, 0, 1, 1] = float("inf")
    video[0, 6] = float("nan")
    with pytest.raises(ValueError, match="13 of 264 values are .* the first of them in frame 24"):
        check_finite(video, first=20)
