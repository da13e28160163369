"""Rolling denoising: an endless queue of frames is denoised to 0 in constant memory."""

from dataclasses import replace

import pytest
import torch
from model_toys import Denoisers, peak_tensors, toy_sampling, whole
from videoldm.core.diffusion.curves import current_step
from videoldm.core.diffusion.noise import NoiseSource
from videoldm.core.diffusion.samplers import sample_euler, sample_euler_ancestral
from videoldm.core.networks.reference import ReferenceWindow
from videoldm.core.tasks.content import digest
from videoldm.core.tasks.finished import Finished
from videoldm.core.tasks.rolling import Rolling, rolling, start_queue
from videoldm.core.tasks.rolling_windows import queue_windows

SIZE = (2, 4, 3, 5)
SAMPLING = toy_sampling(6)
HOWS = {
    "plain": Rolling(window=3, lookahead=False, chunk=4),
    "lookahead": Rolling(window=4, chunk=4),
    "odd window": Rolling(window=5, eta=1.0, chunk=4),
    "what is left over": Rolling(window=4, lookahead=False, chunk=4, eta=0.5),
}


def made(frames, how=HOWS["plain"], denoisers=None, **more):
    return rolling(denoisers or Denoisers(), SIZE, SAMPLING, frames, settings=how, **more)


@pytest.mark.parametrize("how", HOWS.values(), ids=HOWS)
@pytest.mark.parametrize("frames", [1, 4, 11])
def test_exactly_the_frames_that_were_asked_for(how, frames):
    video = whole(made(frames, how))
    assert video.shape == (2, frames, 4, 3, 5) and torch.isfinite(video).all()
    assert torch.equal(video, whole(made(frames, how)))
    assert not torch.allclose(video[0], video[1])


@pytest.mark.parametrize("how", HOWS.values(), ids=HOWS)
def test_a_run_continues_bit_for_bit_and_a_longer_video_begins_like_a_shorter_one(how):
    chunks = list(made(11, how))
    for k in range(1, len(chunks) + 1):
        rest = list(made(11, how, done=whole(chunks[:k])))
        assert len(rest) == len(chunks) - k
        assert all(torch.equal(a, b) for a, b in zip(rest, chunks[k:], strict=True))
    assert torch.equal(whole(made(7, how)), whole(chunks)[:, :7])


@pytest.mark.parametrize("steps", [4, 6, 7, 16, 25])
@pytest.mark.parametrize("window", [1, 2, 3, 4])
@pytest.mark.parametrize("lookahead", [False, True])
def test_windows_update_each_position_once_beside_cleaner_ones(steps, window, lookahead):
    if lookahead and window < 2:
        with pytest.raises(ValueError, match="at least 2 frames, got 1"):
            queue_windows(steps, window, lookahead=True)
        return
    front = window // 2 if lookahead else 0
    calls = queue_windows(steps, window, lookahead=lookahead)
    updated = [position for call in calls for position in call.updated]
    assert updated == list(range(front, front + steps))
    for seen, changed in calls:
        assert len(seen) == window and set(changed) <= set(seen)
        assert changed.start - seen.start >= front


def test_fewer_steps_than_a_window_has_frames_are_refused():
    with pytest.raises(ValueError, match="take at least 7 steps"):
        made(3, Rolling(window=7))


def test_frames_leave_the_queue_without_noise():
    """With a denoiser that knows the clean frame, that very frame leaves the queue."""
    answer = torch.linspace(-1, 1, 60).reshape(4, 3, 5)
    sampling = replace(SAMPLING, sampler=sample_euler)
    video = whole(rolling(lambda c: lambda x, s: answer.expand_as(x), SIZE, sampling, 9,
                          settings=HOWS["lookahead"]))  # fmt: skip
    torch.testing.assert_close(video, answer.expand_as(video))


@pytest.mark.parametrize("eta, sampler", [(0.0, sample_euler), (1.0, sample_euler_ancestral)])
def test_a_frame_takes_the_steps_of_the_sampler(eta, sampler):
    """If the model treats frames alone, a frame that joins later equals a video of one frame."""

    def alone(condition):
        return lambda x, sigma: x / (1 + sigma.reshape(sigma.shape + (1,) * (x.ndim - sigma.ndim)))

    sampling = replace(SAMPLING, sampler=sampler)
    how = Rolling(window=2, lookahead=False, eta=eta)
    video = whole(rolling(alone, SIZE, sampling, 8, settings=how))
    source = NoiseSource((5, 6), (7,))
    x = source.initial(torch.empty(2, 1, 4, 3, 5)) * (1 + sampling.sigmas[0] ** 2).sqrt()
    expected = sampler(alone(None), x, sampling.sigmas, noise=source)
    torch.testing.assert_close(video[:, 7:], expected, rtol=1e-4, atol=1e-5)


def test_the_model_is_told_the_level_and_the_step_of_every_frame():
    told = []

    def denoiser_for(condition):
        def denoise(x, sigma):
            if sigma.ndim:
                told.append((condition.frames, sigma[0].tolist(), current_step.get()))
            return torch.zeros_like(x)

        return denoise

    how = Rolling(window=4)
    queue = start_queue(denoiser_for, SIZE, SAMPLING, how)
    told.clear()
    queue.step()
    rising = SAMPLING.sigmas.flip(0).tolist()
    assert [levels for _, levels, _ in told] == [
        [0.0, 0.0, *rising[1:3]], rising[1:5], rising[3:7],
    ]  # fmt: skip
    assert [frames for frames, _, _ in told] == [(0, 0, 0, 0), (0, 0, 0, 1), (0, 1, 2, 3)]
    # The middle frames take their last step, the third and the fifth from last.
    assert [(step.index, step.total) for _, _, step in told] == [(5, 6), (3, 6), (1, 6)]


def test_memory_does_not_grow():
    few, many = (peak_tensors(made(frames, HOWS["lookahead"])) for frames in (64, 256))
    assert many <= few


def test_a_reference_is_read_by_all_windows():
    read = []

    class Spy(Denoisers):
        def __call__(self, condition):
            if condition.reference is not None:
                read.append(condition.reference.records)
            return super().__call__(condition)

    how = replace(HOWS["plain"], reference=ReferenceWindow(end=1.0))
    whole(made(4, how, Spy()))
    # Two windows for each step of the queue, those of the warm-up included.
    calls = 2 * (4 + 6 - 3)
    assert read == [False, True] * calls


class Kept(Finished):
    """A store in memory: chunks by the digest of their inputs."""

    def __init__(self):
        self.chunks, self.made = {}, 0

    def __call__(self, make, /, **parts):
        key = digest(parts)
        if key not in self.chunks:
            self.chunks[key], self.made = make(), self.made + 1
        return self.chunks[key].clone()


def test_finished_chunks_are_not_made_again_and_a_longer_video_goes_on_from_them():
    kept = Kept()
    sampling, how = replace(SAMPLING, finished=kept), HOWS["lookahead"]
    short = whole(rolling(Denoisers(), SIZE, sampling, 8, settings=how))
    first = kept.made
    assert first == 3, "the first clip and two chunks"
    longer = whole(rolling(Denoisers(), SIZE, sampling, 12, settings=how))
    assert kept.made == first + 1
    assert torch.equal(longer, whole(made(12, how))) and torch.equal(longer[:, :8], short)
    whole(rolling(Denoisers(), SIZE, sampling, 8, settings=replace(how, eta=0.5)))
    assert kept.made == first + 3, "the first clip is the same"
