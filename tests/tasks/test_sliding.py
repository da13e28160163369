"""Sliding windows over one sampling run."""

from dataclasses import replace

import pytest
import torch
from model_toys import Denoisers, normal, toy_sampling, whole
from videoldm.core.diffusion.denoiser import to_ve
from videoldm.core.diffusion.noise import free_noise
from videoldm.core.diffusion.samplers import sample_euler
from videoldm.core.networks.context_frames import given_frames
from videoldm.core.tasks.long_video import SlidingWindows, single_segment, sliding

SIZE = (2, 4, 3, 5)
SAMPLING = toy_sampling()


@pytest.mark.parametrize("schedule", ["static", "batched"])
def test_sliding_covers_every_frame_and_asks_for_each_window_once(schedule):
    denoisers = Denoisers()
    windows = SlidingWindows(window=8, overlap=3, chunk=10, schedule=schedule)
    video = whole(sliding(denoisers, SIZE, SAMPLING, 29, windows=windows))
    assert video.shape[1] == 29
    assert set().union(*denoisers.frames) == set(range(29))
    assert len(set(denoisers.frames)) == len(denoisers.frames)


def test_one_window_over_everything_is_a_single_clip():
    clip = whole(single_segment(Denoisers(), SIZE, SAMPLING, 12))
    windows = SlidingWindows(window=16, overlap=4)
    torch.testing.assert_close(
        whole(sliding(Denoisers(), SIZE, SAMPLING, 12, windows=windows)), clip
    )


def test_a_frame_by_frame_model_does_not_see_the_windows():
    def frame_by_frame(condition):
        return lambda x, sigma: (x / (1 + sigma)).tanh()

    sampling = replace(SAMPLING, sampler=sample_euler)
    windows = SlidingWindows(window=6, overlap=2, free_noise=False)
    video = whole(sliding(frame_by_frame, SIZE, sampling, 21, windows=windows))
    torch.testing.assert_close(video, whole(single_segment(frame_by_frame, SIZE, sampling, 21)))


def test_free_noise_repeats_the_first_windows_noise():
    start = []
    sampling = replace(SAMPLING, sampler=lambda d, x, s, **_: start.append(x) or x)
    list(sliding(Denoisers(), SIZE, sampling, 20, windows=SlidingWindows(window=8, overlap=4)))
    noise = sampling.noise(2, range(20)).initial(torch.empty(2, 20, 4, 3, 5))
    shuffled = free_noise(noise, 8, 4, sampling.seed)
    torch.testing.assert_close(start[0], to_ve(shuffled, sampling.sigmas[0]))
    assert not torch.equal(shuffled, noise)


def test_each_window_is_told_the_given_frames_within_it():
    known = normal(2, 2, 4, 3, 5)
    context = given_frames(known, [0, 14], 20)
    denoisers = Denoisers()
    windows = SlidingWindows(window=8, overlap=4, context=context)
    video = whole(sliding(denoisers, SIZE, SAMPLING, 20, windows=windows))
    assert torch.equal(video[:, [0, 14]], known)
    assert {0, 14} <= {frame for one in denoisers.conditions for frame in one.frames}
    for condition in denoisers.conditions:
        assert condition.context.mask[0].tolist() == [f in (0, 14) for f in condition.frames]
