"""LaVie's super-resolution of long and large videos: seams, tiles, memory."""

from __future__ import annotations

import lavie_toys as toys
import pytest
import torch
from model_toys import normal, seeded
from videoldm.core.diffusion.schedules import scaled_linear
from videoldm.core.evaluation.memory import peak_bytes, upsampling_peaks
from videoldm.core.families import lavie
from videoldm.core.families.lavie_sampling import plan
from videoldm.core.tasks.independent_chunks import NoiseStream, independent_chunks
from videoldm.core.tasks.segment import Sampling
from videoldm.core.tasks.upsampling import Upsampling, upsample_whole

FRAMES, SIZE = 61, (4, 6)


def settings(**changes) -> Upsampling:
    return Upsampling(schedule=scaled_linear(), **{"chunk": 8, "overlap": 4} | changes)


def sampled(make, how=None, **changes):
    """Latents of a video whose frames are all the same."""
    how = how or plan("ddim", 10)
    low_res = normal(1, 1, 3, *SIZE).expand(-1, FRAMES, -1, -1, -1)
    if make is independent_chunks:
        noise = NoiseStream(seeded(3))
        chunks = make(agreeing, low_res, how, settings(**changes), noise)
        return torch.cat(list(chunks), dim=1)
    sampling = Sampling(sampler=how.sample, sigmas=how.sigmas, seed=3)
    return make(agreeing, low_res, sampling, settings(**changes))


def agreeing(condition):
    """A toy model that makes all frames of a chunk equal, but each chunk different."""

    def denoise(x, sigma):
        return (x / (1 + sigma)).mean(1, keepdim=True).expand_as(x).tanh()

    return denoise


def jumps(video):
    """Mean absolute difference of neighbouring frames, [t - 1]."""
    return (video[:, 1:] - video[:, :-1]).flatten(2).abs().mean(-1)[0]


def test_borders_of_blended_clips_do_not_show():
    """Independent chunks jump where they meet; blended, no difference of neighbours reaches a fifth
    of that, or 2.5 times the median."""
    clean = plan("respaced_ddim", 10)  # The upsampler's own list ends on a little noise.
    independent = jumps(sampled(independent_chunks, clean))
    blended = jumps(sampled(upsample_whole, clean))
    borders = torch.arange(7, FRAMES - 1, 8)
    assert independent.sum() == independent[borders].sum() and independent[borders].min() > 0.2
    assert blended.max() < 0.2 * independent[borders].min()
    assert blended.max() < 2.5 * blended.median()


def test_tiles_of_a_model_that_sees_one_position_are_the_whole_frames():
    whole = sampled(upsample_whole)
    tiles = sampled(upsample_whole, tile=4, tile_overlap=2)
    torch.testing.assert_close(tiles, whole, atol=1e-5, rtol=1e-5)
    both = [sampled(independent_chunks, **one)
            for one in ({}, {"tile": 3, "tile_overlap": 1})]  # fmt: skip
    torch.testing.assert_close(*both, atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def model():
    config = toys.config_of("vsr")
    return lavie.diffusion_model(config, lavie.assemble(toys.state_of(config), config))


def test_memory_does_not_grow_with_the_video(model):
    """Not counting latents, noise and low-resolution frames of the whole video."""
    short, long = upsampling_peaks(model, (16, 40), height=12, width=12)
    ratio = long.working / short.working
    print(f"working {long.working:,} / {short.working:,} bytes = {ratio:.3f}; "
          f"with latents {long.total / short.total:.3f}")  # fmt: skip
    assert ratio <= 1.15
    assert short.working > 20 * 8 * 12 * 12 * 4, "a clip's activations are counted"


def test_peaks_are_those_of_tensors_that_live_together():
    def program():
        a = torch.ones(1000)
        b = a + 1
        del a
        return (b * 2).view(10, 100)[0]

    assert peak_bytes(program) == 8000
    assert peak_bytes(program, aside=lambda x: True) == 0
    assert peak_bytes(lambda: [torch.ones(1000) for _ in range(3)]) == 12000
