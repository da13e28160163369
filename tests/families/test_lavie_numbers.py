"""Numbers that are in LaVie's scripts but not in its files: a wrong one makes videos that look
nearly right."""

from __future__ import annotations

import diffusers
import lavie_toys as toys
import numpy as np
import pytest
import torch
from model_toys import normal
from videoldm.core.diffusion.schedules import linear
from videoldm.core.families import lavie
from videoldm.core.families import lavie_sampling as sampling
from videoldm.core.families import lavie_upsampling as upsampling

# Kind: factor and scale of the autoencoder, prediction, last beta of the low-resolution frames.
FACTS = {
    "base": (8, 0.18215, "eps", None),
    "interpolation": (8, 0.18215, "eps", None),
    "vsr": (4, 0.08333, "v", 2e-2),
}


@pytest.fixture(scope="module", params=FACTS)
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(kind):
    config = toys.config_of(kind)
    return lavie.diffusion_model(config, lavie.assemble(toys.state_of(config), config))


def test_the_autoencoders_are_those_the_networks_were_trained_with(kind, model):
    """Their published scale multiplies latents for the network, and divides those it makes."""
    factor, scale, prediction, _ = FACTS[kind]
    assert (model.factor, model.prediction) == (factor, prediction)
    latents = torch.ones(1, 1, 4, 1, 1)
    assert model.scaled(latents).unique().item() == pytest.approx(scale, rel=1e-6)
    assert model.unscaled(latents).unique().item() == pytest.approx(1 / scale, rel=1e-6)


def test_betas_are_linear_and_those_of_low_resolution_frames_scaled_linear(kind, model):
    expected = torch.linspace(1e-4, 2e-2, 1000, dtype=torch.float64)
    torch.testing.assert_close(model.schedule.betas, expected, atol=1e-9, rtol=0)
    low_res, last = model.noise_schedule_for_low_res, FACTS[kind][3]
    assert (low_res is None) == (last is None)
    if low_res is not None:
        roots = torch.linspace(1e-4**0.5, last**0.5, 1000, dtype=torch.float64)
        torch.testing.assert_close(low_res.betas, roots**2, atol=1e-9, rtol=0)
        assert model.max_noise_level == 350


def seen_first(how: sampling.Plan, walk: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """The first x and sigma that a plan's sampler passes to its denoiser, for noise of ones."""
    seen = []

    def denoiser(x, sigma):
        seen.append((x, sigma))
        return torch.zeros_like(x)

    ones = torch.ones(1, 1, 1, 1, 1, dtype=torch.float64)
    noise = lambda step, x: torch.zeros_like(x)  # noqa: E731
    if walk:
        started = (how.sigmas[0].double() ** 2 + 1).sqrt() * ones
        how.sample(denoiser, started, how.sigmas, noise=noise)
    else:
        how.run(denoiser, ones, step_noise=noise)
    return seen[0]


@pytest.mark.parametrize("walk", [False, True])
@pytest.mark.parametrize("method", sampling.METHODS)
def test_noise_is_scaled_as_the_scripts_do(method, walk):
    """Euler begins with sigma n, the others with sqrt(sigma^2 + 1) n: 157.407 and 157.410."""
    x, sigma = seen_first(sampling.plan(method, 50), walk)
    first = sigma.double().item()
    expected = first if method == "euler" else (first**2 + 1) ** 0.5
    assert x.item() == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("steps", [2, 7, 50])
def test_eulers_levels_are_those_of_the_pinned_scheduler(steps):
    """sigma, not its logarithm, is linear between the table's entries, from 999 to 0 inclusive."""
    abar = linear().alphas_cumprod.numpy()
    table = np.sqrt((1 - abar) / abar)
    wanted = np.interp(np.linspace(0, 999, steps)[::-1], np.arange(1000), table)
    sigmas = sampling.plan("euler", steps).sigmas.double().numpy()
    np.testing.assert_allclose(sigmas[:-1], wanted, rtol=1e-6)
    assert sigmas[-1] == 0
    reference = diffusers.EulerDiscreteScheduler(beta_start=1e-4, beta_end=2e-2)
    reference.set_timesteps(steps)
    np.testing.assert_allclose(sigmas, reference.sigmas.numpy(), rtol=1e-4, atol=1e-7)
    assert float(reference.init_noise_sigma) == pytest.approx(sigmas[0], rel=1e-5)


@pytest.mark.parametrize("method, last", [("euler", 0), ("ddim", 1e-4), ("respaced_ddim", 0)])
def test_results_are_in_the_networks_form(method, last):
    """With a constant x_0 every step is exact, down to sigma_0 (of beta 1e-4) with ddim, whose
    result is then scaled as the network sees it."""
    how, noise = sampling.plan(method, 3), normal(1, 1, 1, 1, 1).double()
    first, end = how.sigmas[0].double().item(), (last / (1 - last)) ** 0.5
    begun = noise.item() * (first if method == "euler" else (first**2 + 1) ** 0.5)
    expected = (2 + end / first * (begun - 2)) / (1 + end**2) ** 0.5
    made = how.run(lambda x, sigma: torch.full_like(x, 2.0), noise)
    assert made.item() == pytest.approx(expected, rel=1e-6)


def test_published_settings():
    """The scripts' own defaults, which the published workflow repeats."""
    steps = {kind: settings.steps for kind, settings in sampling.PUBLISHED.items()}
    assert steps == dict.fromkeys(FACTS, 50)
    scales = [settings.scale for settings in sampling.PUBLISHED.values()]
    assert scales == [7.5, 4.0, 5.0]
    assert [s.frames for s in sampling.PUBLISHED.values()] == [16, 61, 8]
    assert [s.fps for s in sampling.PUBLISHED.values()] == [8, 24, 8]


def test_low_resolution_frames_are_noised_at_level_50():
    config = toys.config_of("vsr")
    model = lavie.diffusion_model(config, lavie.assemble(toys.state_of(config), config))
    ones = torch.ones(1, 1, 1, 1, 1)
    level = sampling.PUBLISHED["vsr"].noise_level
    kept = upsampling.noised_low_res(model, ones, 0 * ones, level).item()
    added = upsampling.noised_low_res(model, 0 * ones, ones, level).item()
    assert (kept, added) == pytest.approx((0.995411, 0.095688), abs=1e-6)
