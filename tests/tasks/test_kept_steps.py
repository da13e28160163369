"""Tasks that finish all frames at once resume at the step in which they were interrupted."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from model_toys import normal, toy_sampling
from videoldm.core.diffusion.free_init import FreeInit, free_init
from videoldm.core.diffusion.samplers import SAMPLERS
from videoldm.core.diffusion.schedules import scaled_linear
from videoldm.core.tasks.chunk_store import ChunkStore
from videoldm.core.tasks.finished import always_made
from videoldm.core.tasks.sliding import SlidingWindows, sliding
from videoldm.core.tasks.upsampling import Upsampling, upsample_whole

SIZE, FRAMES = (1, 4, 3, 5), 14
WINDOWS = SlidingWindows(window=6, overlap=2)


class Killed(BaseException):
    """Ends a run as an interruption does."""


class Network:
    """Denoisers that mix the frames of a window and raise `Killed` after `most` calls."""

    def __init__(self, most: int | None = None):
        self.most, self.calls = most, 0

    def __call__(self, condition):
        def denoise(x, sigma):
            if self.calls == self.most:
                raise Killed
            self.calls += 1
            return (x / (1 + sigma) + x.mean(1, keepdim=True)).tanh()

        return denoise


def opened(folder, limit=1e9):
    return ChunkStore(folder, limit, pytest.fail).run("run", {"node": "Sampler"})


def video(network, sampling, windows=WINDOWS):
    return torch.cat(list(sliding(network, SIZE, sampling, FRAMES, windows=windows)), dim=1)


def steps(folder):
    return sorted(path.name.split(".")[1] for path in folder.glob("run/*.*.safetensors"))


def interrupted(make, folder, most):
    """The result of a run that was interrupted after `most` calls of its network, and the number of
    calls after it resumed."""
    with pytest.raises(Killed):
        make(Network(most), opened(folder))
    rest = Network()
    return make(rest, opened(folder)), rest.calls


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_goes_on_bit_for_bit(tmp_path, name):
    sampling = replace(toy_sampling(), sampler=SAMPLERS[name])

    def make(network, finished):
        return video(network, replace(sampling, finished=finished))

    network = Network()
    expected = make(network, always_made)
    windows = len(WINDOWS.windows(FRAMES))
    most = 2 * windows + 1  # Two steps, and one window of the third.
    found, calls = interrupted(make, tmp_path, most)
    assert torch.equal(found, expected)
    assert calls == network.calls - 2 * windows
    assert steps(tmp_path) == [] and len(list(tmp_path.rglob("*.safetensors"))) == 1


def test_iterations_of_free_init_go_on_where_they_were(tmp_path):
    sampler = free_init(SAMPLERS["euler"], FreeInit(iterations=2))
    sampling = replace(toy_sampling(), sampler=sampler)

    def make(network, finished):
        return video(network, replace(sampling, finished=finished))

    network = Network()
    expected = make(network, always_made)
    found, calls = interrupted(make, tmp_path, network.calls - 1)
    assert torch.equal(found, expected) and calls == len(WINDOWS.windows(FRAMES))


def test_windows_of_every_step_are_laid_as_they_were(tmp_path):
    windows = replace(WINDOWS, schedule="uniform")

    def make(network, finished):
        return video(network, replace(toy_sampling(), finished=finished), windows)

    network = Network()
    expected = make(network, always_made)
    found, calls = interrupted(make, tmp_path, network.calls // 2)
    assert torch.equal(found, expected) and calls < network.calls


def test_blended_upsampling_goes_on_at_its_step(tmp_path):
    low = normal(1, 9, 3, 4, 6)
    how = Upsampling(schedule=scaled_linear(), chunk=4, overlap=2)

    def make(network, finished):
        return upsample_whole(network, low, replace(toy_sampling(), finished=finished), how)

    network = Network()
    expected = make(network, always_made)
    found, calls = interrupted(make, tmp_path, network.calls - 2)
    assert torch.equal(found, expected) and calls < network.calls / 2
    assert steps(tmp_path) == []


def test_steps_stay_where_the_whole_could_not_be_written(tmp_path, monkeypatch):
    told, write = [], ChunkStore.write
    store = ChunkStore(tmp_path, 1e9, told.append)

    def small(self, path, tensors, about):
        if tensors["chunk"].numel() > 10:
            raise OSError(28, "No space left on device")
        write(self, path, tensors, about)

    monkeypatch.setattr(ChunkStore, "write", small)

    def make(step):
        return torch.cat([step(lambda: torch.zeros(8)), step(lambda: torch.ones(8))])

    assert store.run("run", {}).in_steps(make, of=1).sum() == 8
    assert steps(tmp_path) == ["0", "1"] and len(told) == 1
    monkeypatch.undo()
    again = opened(tmp_path)
    assert again.in_steps(make, of=1).sum() == 8 and (again.made, again.reused) == (1, 2)
    assert steps(tmp_path) == []


def test_steps_that_were_removed_for_room_are_made_again(tmp_path):
    def make(network, finished):
        return video(network, replace(toy_sampling(), finished=finished))

    expected, network = make(Network(), always_made), Network()
    windows = len(WINDOWS.windows(FRAMES))
    with pytest.raises(Killed):
        make(Network(2 * windows), opened(tmp_path))
    for path in tmp_path.rglob("*.0.safetensors"):
        path.unlink()
    assert torch.equal(make(network, opened(tmp_path)), expected)
    assert network.calls == 2 * windows


def test_what_has_no_digest_is_made_without_steps(tmp_path):
    finished = opened(tmp_path)
    made = finished.in_steps(lambda step: step(lambda: torch.ones(2)), of=object())
    assert made.sum() == 2 and not list(tmp_path.rglob("*"))
