"""FreeInit: filters and noise against the paper's formulas, iterations against explicit loops."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_toys import normal, toy_sampling
from videoldm.core.diffusion.denoiser import to_ve
from videoldm.core.diffusion.free_init import FILTERS, FreeInit, FreshNoise, free_init, next_noise
from videoldm.core.diffusion.samplers import sample_euler, sample_euler_ancestral

SIGMAS = torch.tensor([14.6, 3.0, 1.0, 0.0])


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(FILTERS)), st.integers(1, 17), st.integers(1, 9), st.integers(1, 9),
       st.floats(0.05, 1.0), st.floats(0.05, 1.0))  # fmt: skip
def test_filters_are_those_of_the_paper_around_frequency_zero(name, t, h, w, spatial, temporal):
    """Against numpy's centred frequencies, element by element; odd lengths are centred, too."""
    how = FreeInit(filter=name, spatial=spatial, temporal=temporal, order=3)
    got = torch.fft.fftshift(how.low_pass(t, h, w)).numpy()
    centred = [2 * np.fft.fftshift(np.fft.fftfreq(length)) for length in (t, h, w)]
    for i, a in enumerate(centred[0]):
        for j, b in enumerate(centred[1]):
            for k, c in enumerate(centred[2]):
                d2 = (spatial / temporal * a) ** 2 + b**2 + c**2
                wanted = {
                    "gaussian": np.exp(-d2 / (2 * spatial**2)),
                    "butterworth": 1 / (1 + (d2 / spatial**2) ** 3),
                    "ideal": float(d2 <= spatial**2),
                }[name]
                near = abs(d2 - spatial**2) < 1e-6 and name == "ideal"
                assert near or got[i, j, k] == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("frames", [5, 8])
def test_what_is_low_and_what_is_high_add_up(name, frames):
    how, x = FreeInit(filter=name), normal(2, frames, 3, 6, 5)
    torch.testing.assert_close(how.mixed(x, x), x, rtol=1e-4, atol=1e-5)
    constant = normal(2, 1, 3, 1, 1).expand(2, frames, 3, 6, 5)
    torch.testing.assert_close(how.mixed(constant, 0 * constant), constant, rtol=1e-4, atol=1e-5)
    assert torch.equal(FreeInit(spatial=0.0).low_pass(frames, 6, 5), torch.zeros(frames, 6, 5))


def test_the_noise_of_the_next_sampling_is_the_formulas():
    how, sigma = FreeInit(filter="gaussian"), torch.tensor(2.0)
    made, noise, fresh = (normal(1, 6, 2, 4, 4, seed=seed) for seed in range(3))
    abar = 1 / (1 + 4.0)
    z = abar**0.5 * made + (1 - abar) ** 0.5 * noise
    passes = how.low_pass(6, 4, 4)[:, None]
    low, high = (torch.fft.fftn(one, dim=(1, 3, 4)) for one in (z, fresh))
    wanted = torch.fft.ifftn(low * passes + high * (1 - passes), dim=(1, 3, 4)).real
    torch.testing.assert_close(next_noise(how, made, noise, fresh, sigma), wanted)


def test_noise_stays_as_strong_as_it_was():
    """For a video of unit variance, the next noise has unit variance, too."""
    made, noise, fresh = (normal(4, 16, 4, 16, 16, seed=seed) for seed in range(3))
    again = next_noise(FreeInit(), made, noise, fresh, torch.tensor(3.0))
    assert float(again.std()) == pytest.approx(1.0, abs=0.05)


def test_every_sampling_diffuses_with_the_very_first_noise():
    """Against an explicit loop; the noise of a later sampling is never taken for the first."""
    how, x0 = FreeInit(iterations=3), normal(1, 5, 2, 4, 4)
    denoiser = lambda x, sigma: 0.3 * x / (1 + sigma)  # noqa: E731
    fresh = [None, normal(1, 5, 2, 4, 4, seed=5), normal(1, 5, 2, 4, 4, seed=6)]
    source = FreshNoise(noise=lambda k, x: fresh[k], steps=lambda k: None)
    got = free_init(sample_euler, how, source)(denoiser, to_ve(x0, SIGMAS[0]), SIGMAS)
    noise = x0
    for k in (1, 2, 3):
        made = sample_euler(denoiser, to_ve(noise, SIGMAS[0]), SIGMAS)
        if k < 3:
            noise = next_noise(how, made, x0, fresh[k], SIGMAS[0])
    torch.testing.assert_close(got, made)
    assert not torch.allclose(got, sample_euler(denoiser, to_ve(x0, SIGMAS[0]), SIGMAS))


def test_one_iteration_is_the_sampler_alone():
    sampling, x = toy_sampling(), normal(1, 5, 4, 2, 2)
    noise = sampling.noise(1, range(5))
    denoiser = lambda x, sigma: x / (1 + sigma**2)  # noqa: E731
    for sampler in (sample_euler, sample_euler_ancestral):
        once = free_init(sampler, FreeInit(iterations=1))(denoiser, x, SIGMAS, noise=noise)
        assert torch.equal(once, sampler(denoiser, x, SIGMAS, noise=noise))


def test_new_noise_belongs_to_frames_and_every_sampling_has_its_own():
    asked = []

    def noise(step, x):
        asked.append(step)
        return torch.zeros_like(x)

    steps = []
    x = normal(1, 3, 2, 2, 2)
    free_init(sample_euler_ancestral, FreeInit(iterations=3))(
        lambda x, sigma: 0 * x, x, SIGMAS, noise=noise, callback=steps.append
    )
    assert len(set(asked)) == len(asked)
    assert [one.index for one in steps] == list(range(9)) and {one.total for one in steps} == {9}
    with pytest.raises(ValueError, match="new noise for every iteration"):
        free_init(sample_euler, FreeInit())(lambda x, sigma: x, x, SIGMAS)


def test_numbers_that_make_no_sense_are_refused():
    for how, text in (
        ({"iterations": 0}, "at least 1 iteration"), ({"order": 0}, "order 1, got 3 and 0"),
        ({"filter": "round"}, "Unknown filter 'round'.*ideal"),
        ({"spatial": -0.1}, "not be below 0, got -0.1 and 0.25"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=text):
            FreeInit(**how)
