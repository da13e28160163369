"""Samplers against the exact solution of a Gaussian model, and step by step against diffusers."""

import math

import diffusers
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from videoldm.core.diffusion import samplers as sampling
from videoldm.core.diffusion import schedules
from videoldm.core.diffusion.denoiser import to_ve, to_vp
from videoldm.core.diffusion.preconditioning import discrete, preconditioned
from videoldm.core.diffusion.samplers import SAMPLERS, Step

MORE = {"dpmpp_3m_sde": sampling.sample_dpmpp_3m_sde}
STOCHASTIC = {"euler_ancestral", "ddpm", "dpmpp_2m_sde", "lcm"}
SHAPE = (2, 3, 4, 5, 6)  # b t c h w
SCHEDULE = schedules.scaled_linear()
BETAS = dict(beta_schedule="scaled_linear", beta_start=8.5e-4, beta_end=1.2e-2)


def fixed_noise(step: int, x: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1000 + step)
    return torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x)


def start(seed: int = 0) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


# --------------------------------------------------------------------------------------------------
# Data x_0 ~ N(MEAN, SPREAD^2): the ideal denoiser is linear and the flow has a closed form.

MEAN, SPREAD = 0.7, 0.5


def gaussian_denoiser(x, sigma):
    return (SPREAD**2 * x + sigma**2 * MEAN) / (SPREAD**2 + sigma**2)


def exact_flow(x, sigma, sigma_next):
    return MEAN + (x - MEAN) * math.sqrt((SPREAD**2 + sigma_next**2) / (SPREAD**2 + sigma**2))


def error(sampler, steps, **options):
    sigmas = torch.logspace(1, -1, steps + 1, dtype=torch.float64)
    x = start().double() * 10
    return (sampler(gaussian_denoiser, x, sigmas, **options) - exact_flow(x, 10, 0.1)).abs().max()


@pytest.mark.parametrize(
    ("name", "options", "order"),
    [
        ("euler", {}, 1),
        ("ddim", {"eta": 0.0}, 1),
        ("euler_ancestral", {"eta": 0.0}, 1),
        ("heun", {}, 2),
        ("dpmpp_2m", {}, 2),
        ("dpmpp_2m_sde", {"eta": 0.0}, 2),
        ("dpmpp_3m_sde", {"eta": 0.0}, 2),
        ("unipc", {"order": 1}, 2),
        ("unipc", {"order": 2}, 2),
        ("unipc", {"order": 2, "variant": "bh1"}, 2),
    ],
)
def test_order_of_convergence(name, options, order):
    """Twice the steps divide the error by 2^order; UniPC's last step and 3M's first step are of
    first order, which limits both to second order."""
    sampler = (SAMPLERS | MORE)[name]
    coarse, fine = (error(sampler, steps, **options) for steps in (80, 160))
    assert order - 0.4 < math.log2(coarse / fine) < order + 0.5
    assert fine < 0.05


@pytest.mark.parametrize("variant", ["bh1", "bh2"])
def test_the_corrector_makes_second_order_unipc_third_order(variant):
    """Before the last, first-order step: the corrector adds one to the predictor's order."""

    def error_before_last(steps):
        seen = []
        error(SAMPLERS["unipc"], steps, variant=variant, callback=seen.append)
        exact = exact_flow(seen[0].x, 10, seen[-1].sigma)
        return (seen[-1].x - exact).abs().max()

    assert 2.6 < math.log2(error_before_last(80) / error_before_last(160)) < 3.5


@given(st.floats(0.01, 100), st.floats(0, 1), st.floats(0, 4))
def test_an_ancestral_step_ends_on_the_next_level(sigma, part, eta):
    """down^2 + up^2 = next^2 for every eta; eta = 1 gives the deviation of the posterior."""
    after = part * sigma
    down, up = sampling.ancestral_step(sigma, after, eta)
    assert 0 <= up <= after and down**2 + up**2 == pytest.approx(after**2)
    _, posterior = sampling.ancestral_step(sigma, after)
    assert posterior == pytest.approx(after * math.sqrt(1 - part**2), abs=1e-6 * sigma)


@pytest.mark.parametrize("name", sorted({*SAMPLERS, *MORE} - {"lcm"}))
def test_the_right_distribution_comes_out(name):
    """From sigma * n, every sampler reaches the mean and the spread of the data."""
    generator = torch.Generator().manual_seed(3)
    sigmas = schedules.get_sigmas_karras(120, 0.01, 80.0)
    x = torch.randn(20_000, generator=generator) * sigmas[0]
    x = (SAMPLERS | MORE)[name](gaussian_denoiser, x, sigmas, noise=fixed_noise)
    assert abs(x.mean().item() - MEAN) < 0.02
    assert abs(x.std().item() - SPREAD) < 0.03


def test_equal_levels_do_no_harm_to_third_order_steps():
    sigmas = torch.tensor([2.0, 1.0, 1.0, 0.5, 0.5, 0.2, 0.0])
    x = sampling.sample_dpmpp_3m_sde(gaussian_denoiser, start(), sigmas, noise=fixed_noise)
    assert bool(x.isfinite().all())


def test_lcm_noises_its_estimate_to_the_next_level():
    sigmas = torch.tensor([3.0, 1.5, 0.0])
    x = start() * 3
    first = gaussian_denoiser(x, sigmas[0]) + 1.5 * fixed_noise(0, x)
    expected = gaussian_denoiser(first, sigmas[1])
    got = sampling.sample_lcm(gaussian_denoiser, x, sigmas, noise=fixed_noise)
    torch.testing.assert_close(got, expected)


# --------------------------------------------------------------------------------------------------
# The same network under diffusers' schedulers.


def network(x_vp, timestep):
    """Near the ideal noise prediction for unit data, and not linear."""
    sigma = SCHEDULE.sigma(timestep).to(x_vp).reshape(-1, *[1] * (x_vp.ndim - 1))
    spread = sigma / (1 + sigma**2).sqrt()
    return spread * x_vp + 0.1 * torch.sin(3 * x_vp.roll(1, -1)) * spread


DENOISER = preconditioned(network, discrete("eps", SCHEDULE))


def run_diffusers(scheduler, steps, monkeypatch, **step_options):
    """The final sample of diffusers' own loop, whose i-th draw of noise is `fixed_noise(i)`."""
    scheduler.set_timesteps(steps)
    module = scheduler.step.__globals__
    drawn = []

    def randn_tensor(shape, **_):
        drawn.append(fixed_noise(len(drawn), torch.empty(shape)))
        return drawn[-1]

    monkeypatch.setitem(module, "randn_tensor", randn_tensor)
    x = start() * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        prediction = network(scheduler.scale_model_input(x, t), t.expand(len(x)))
        x = scheduler.step(prediction, t, x, **step_options).prev_sample
    return x


def assert_same(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * theirs.abs().max().item())


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("end_on_first", [False, True])
@pytest.mark.parametrize("offset", [0, 1])
def test_ddim_is_diffusers_ddim(eta, end_on_first, offset, monkeypatch):
    reference = diffusers.DDIMScheduler(
        **BETAS, clip_sample=False, set_alpha_to_one=not end_on_first, steps_offset=offset
    )
    theirs = run_diffusers(reference, 12, monkeypatch, eta=eta)
    sigmas = schedules.get_sigmas_leading(SCHEDULE, 12, offset=offset, end_on_first=end_on_first)
    x = to_ve(start(), sigmas[0])
    ours = SAMPLERS["ddim"](DENOISER, x, sigmas, noise=fixed_noise, eta=eta)
    assert_same(to_vp(ours, sigmas[-1]), theirs)


@pytest.mark.parametrize("offset", [0, 1])
def test_ddpm_is_diffusers_ddpm(offset, monkeypatch):
    reference = diffusers.DDPMScheduler(**BETAS, clip_sample=False, steps_offset=offset)
    theirs = run_diffusers(reference, 20, monkeypatch)
    sigmas = schedules.get_sigmas_leading(SCHEDULE, 20, offset=offset)
    x = to_ve(start(), sigmas[0])
    assert_same(SAMPLERS["ddpm"](DENOISER, x, sigmas, noise=fixed_noise), theirs)


def test_ddpm_is_ddim_with_full_noise():
    sigmas = schedules.get_sigmas_trailing(SCHEDULE, 10)
    x = to_ve(start(), sigmas[0])
    ddpm = SAMPLERS["ddpm"](DENOISER, x, sigmas, noise=fixed_noise)
    assert_same(ddpm, SAMPLERS["ddim"](DENOISER, x, sigmas, noise=fixed_noise, eta=1.0))


@pytest.mark.parametrize(
    ("name", "scheduler", "options"),
    [
        ("euler", diffusers.EulerDiscreteScheduler, {}),
        ("euler_ancestral", diffusers.EulerAncestralDiscreteScheduler, {}),
        ("heun", diffusers.HeunDiscreteScheduler, {}),
    ],
)
def test_sigma_samplers_are_those_of_diffusers(name, scheduler, options, monkeypatch):
    reference = scheduler(**BETAS, timestep_spacing="trailing", **options)
    theirs = run_diffusers(reference, 10, monkeypatch)
    sigmas = schedules.get_sigmas_trailing(SCHEDULE, 10)
    x = start() * reference.init_noise_sigma
    assert_same(SAMPLERS[name](DENOISER, x, sigmas, noise=fixed_noise), theirs)


@pytest.mark.parametrize(
    ("name", "scheduler", "theirs", "ours"),
    [
        ("dpmpp_2m", "DPMSolverMultistepScheduler", {}, {}),
        (
            "dpmpp_2m_sde",
            "DPMSolverMultistepScheduler",
            {"algorithm_type": "sde-dpmsolver++"},
            {},
        ),
        ("unipc", "UniPCMultistepScheduler", {}, {}),
        ("unipc", "UniPCMultistepScheduler", {"solver_type": "bh1"}, {"variant": "bh1"}),
        ("unipc", "UniPCMultistepScheduler", {"solver_order": 3}, {"order": 3}),
    ],
)
def test_multistep_samplers_are_those_of_diffusers(name, scheduler, theirs, ours, monkeypatch):
    reference = getattr(diffusers, scheduler)(**BETAS, timestep_spacing="trailing", **theirs)
    # diffusers' bh1 multiplies an infinite last step by 0, so it is compared up to that step.
    sigmas = schedules.get_sigmas_trailing(SCHEDULE, 10)
    if ours.get("variant") == "bh1":
        expected = run_diffusers_until_last(reference, 10)
        final = last_denoised(SAMPLERS[name], to_ve(start(), sigmas[0]), sigmas, **ours)
    else:
        expected = run_diffusers(reference, 10, monkeypatch)
        x = to_ve(start(), sigmas[0])
        final = SAMPLERS[name](DENOISER, x, sigmas, noise=fixed_noise, **ours)
    assert_same(final, expected)


def test_third_order_steps_are_those_of_diffusers():
    reference = diffusers.DPMSolverMultistepScheduler(
        **BETAS, timestep_spacing="trailing", solver_order=3, solver_type="heun",
        lower_order_final=False,
    )  # fmt: skip
    expected = run_diffusers_until_last(reference, 10)
    sigmas = schedules.get_sigmas_trailing(SCHEDULE, 10)
    x = to_ve(start(), sigmas[0])
    assert_same(last_denoised(sampling.sample_dpmpp_3m_sde, x, sigmas, eta=0.0), expected)


def run_diffusers_until_last(scheduler, steps):
    scheduler.set_timesteps(steps)
    x = start()
    for t in scheduler.timesteps[:-1]:
        x = scheduler.step(network(x, t.expand(len(x))), t, x).prev_sample
    last = SCHEDULE.sigmas[scheduler.timesteps[-1]]
    return DENOISER(to_ve(x, last), last)


def last_denoised(sampler, x, sigmas, **options):
    seen = []
    sampler(DENOISER, x, sigmas, callback=lambda step: seen.append(step.denoised), **options)
    return seen[-1]


# --------------------------------------------------------------------------------------------------
# The contract.


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_last_step_to_zero_lands_on_the_denoised_sample(name):
    steps: list[Step] = []
    sigmas = schedules.get_sigmas_uniform(SCHEDULE, 6)
    x = SAMPLERS[name](
        DENOISER, start() * sigmas[0], sigmas, noise=fixed_noise, callback=steps.append
    )
    torch.testing.assert_close(x, steps[-1].denoised, rtol=1e-5, atol=1e-5)
    assert [s.index for s in steps] == list(range(6)) and {s.total for s in steps} == {6}
    assert [s.sigma for s in steps] == sigmas[:-1].tolist()


@pytest.mark.parametrize("name", SAMPLERS)
def test_zero_terminal_snr_stays_finite(name):
    schedule = schedules.zero_terminal_snr(SCHEDULE)
    denoise = preconditioned(lambda x, t: -x.tanh(), discrete("v", schedule))
    sigmas = schedules.get_sigmas_trailing(schedule, 8)
    assert sigmas[0] > 4500
    x = SAMPLERS[name](denoise, start() * sigmas[0], sigmas, noise=fixed_noise)
    assert x.isfinite().all() and x.abs().max() < 100


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_repeated_last_sigma_is_harmless(name):
    """Timestep 0 followed by abar_0, as LaVie's and LVDM's lists can end."""
    sigmas = schedules.get_sigmas_leading(SCHEDULE, 5, offset=0, end_on_first=True)
    assert sigmas[-1] == sigmas[-2]
    x = SAMPLERS[name](DENOISER, start() * sigmas[0], sigmas, noise=fixed_noise)
    assert x.isfinite().all()


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_level_may_come_twice_anywhere(name):
    sigmas = torch.tensor([8.0, 8.0, 3.0, 3.0, 1.0, 0.0])
    x = SAMPLERS[name](DENOISER, start() * sigmas[0], sigmas, noise=fixed_noise)
    assert x.isfinite().all()


@pytest.mark.parametrize("name", SAMPLERS)
def test_axes_have_no_meaning(name):
    """A video is sampled as its frames would be, if the denoiser treats frames alone."""
    sigmas = schedules.get_sigmas_uniform(SCHEDULE, 4)
    alone = lambda x, sigma: x.tanh() / (1 + sigma)  # noqa: E731
    constant = lambda step, x: torch.full_like(x, 0.1 * step)  # noqa: E731
    video = start() * sigmas[0]
    together = SAMPLERS[name](alone, video, sigmas, noise=constant)
    frames = SAMPLERS[name](alone, video.flatten(0, 1), sigmas, noise=constant)
    assert torch.equal(together.flatten(0, 1), frames)


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_input_is_left_alone_and_no_graph_is_kept(name):
    sigmas = schedules.get_sigmas_uniform(SCHEDULE, 3)
    x = start().requires_grad_()
    before = x.detach().clone()
    result = SAMPLERS[name](DENOISER, x, sigmas, noise=fixed_noise)
    assert torch.equal(x, before) and not result.requires_grad


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_callback_can_stop_the_run(name):
    calls = []

    def stop(step):
        calls.append(step.index)
        if step.index == 1:
            raise KeyboardInterrupt

    sigmas = schedules.get_sigmas_uniform(SCHEDULE, 5)
    with pytest.raises(KeyboardInterrupt):
        SAMPLERS[name](DENOISER, start(), sigmas, noise=fixed_noise, callback=stop)
    assert calls == [0, 1]


@pytest.mark.parametrize("name", sorted(STOCHASTIC))
def test_noise_is_added_at_every_level_however_small(name):
    """From a clean sample of 0, a posterior step adds noise of the posterior's deviation, and an
    LCM step noise of the whole next level."""
    sigmas = torch.tensor([2e-4, 1e-4], dtype=torch.float64)
    zeros = torch.zeros(SHAPE, dtype=torch.float64)
    made = SAMPLERS[name](lambda x, sigma: 0 * x, zeros, sigmas, noise=fixed_noise)
    deviation = 1e-4 if name == "lcm" else 1e-4 * math.sqrt(1 - 0.25)
    torch.testing.assert_close(made, deviation * fixed_noise(0, zeros))


@pytest.mark.parametrize("name", sorted(STOCHASTIC))
def test_a_missing_noise_source_is_an_error(name):
    sigmas = schedules.get_sigmas_uniform(SCHEDULE, 3)
    with pytest.raises(ValueError, match="Step 0 adds noise"):
        SAMPLERS[name](DENOISER, start(), sigmas)


@pytest.mark.parametrize("name", sorted(set(SAMPLERS) - STOCHASTIC))
def test_the_others_never_ask_for_noise(name):
    sigmas = schedules.get_sigmas_uniform(SCHEDULE, 3)
    assert SAMPLERS[name](DENOISER, start(), sigmas).isfinite().all()


@pytest.mark.parametrize(
    "sigmas", [[1.0], [0.0, 0.0], [1.0, 2.0, 0.0], [1.0, 0.0, 0.0], [1.0, -1.0]]
)
def test_bad_lists_are_errors(sigmas):
    with pytest.raises(ValueError, match=r"got \["):
        sampling.sample_euler(DENOISER, start(), torch.tensor(sigmas))


def test_unipc_names_a_wrong_order():
    with pytest.raises(ValueError, match="got 4 and 'bh2'"):
        sampling.sample_unipc(DENOISER, start(), torch.tensor([1.0, 0.0]), order=4)
