import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st
from videoldm.core.diffusion import schedules as s

ALL = {
    "linear": s.linear(),
    "scaled_linear": s.scaled_linear(),
    "cosine": s.cosine(),
    "zero_terminal_snr": s.zero_terminal_snr(s.scaled_linear()),
}


@pytest.fixture(params=ALL, ids=str)
def schedule(request) -> s.NoiseSchedule:
    return ALL[request.param]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("linear", dict(beta_schedule="linear", beta_start=1e-4, beta_end=2e-2)),
        ("scaled_linear", dict(beta_schedule="scaled_linear", beta_start=8.5e-4, beta_end=1.2e-2)),
        ("cosine", dict(beta_schedule="squaredcos_cap_v2")),
    ],
)
def test_tables_are_those_of_diffusers(ours, theirs):
    reference = DDPMScheduler(num_train_timesteps=1000, **theirs)
    torch.testing.assert_close(ALL[ours].betas.float(), reference.betas, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(
        ALL[ours].alphas_cumprod.float(), reference.alphas_cumprod, rtol=1e-4, atol=1e-9
    )


def test_published_numbers_of_lvdm():
    """The unconditional LVDM models: sqrt(beta) from sqrt(0.0015) to sqrt(0.0155)."""
    abar = s.scaled_linear(start=0.0015, end=0.0155).alphas_cumprod
    wanted = torch.tensor([0.9985, 0.828818, 0.535476, 0.000669], dtype=torch.float64)
    torch.testing.assert_close(abar[[0, 100, 250, 999]], wanted, rtol=0, atol=1e-6)


def test_zero_terminal_snr_is_that_of_diffusers():
    reference = DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=8.5e-4,
        beta_end=1.2e-2,
        rescale_betas_zero_snr=True,
    )
    ours = ALL["zero_terminal_snr"]
    torch.testing.assert_close(
        ours.alphas_cumprod.float(), reference.alphas_cumprod, rtol=1e-4, atol=1e-6
    )
    assert ours.alphas_cumprod[-1] == 0
    assert np.isfinite(ours.sigma_max) and 4500 < ours.sigma_max < 4600


def test_a_float32_sigma_of_the_table_gives_its_integer_timestep(schedule):
    timesteps = torch.arange(schedule.steps)
    assert torch.equal(schedule.timestep(schedule.sigmas.float()), timesteps.float())
    torch.testing.assert_close(schedule.sigma(timesteps), schedule.sigmas)


@given(st.floats(0, 999), st.sampled_from(sorted(ALL)))
def test_sigma_and_timestep_are_inverse(t, name):
    schedule = ALL[name]
    back = schedule.timestep(schedule.sigma(torch.tensor(t, dtype=torch.float64)))
    assert abs(back.item() - t) < 2e-3


def test_sigmas_outside_the_table_are_clamped(schedule):
    sigmas = torch.tensor([[0.0, 1e-9], [1e9, 1e30]])
    assert torch.equal(schedule.timestep(sigmas), torch.tensor([[0.0, 0.0], [999.0, 999.0]]))


def test_noise_and_velocity_rotate_the_sample(schedule):
    """(x_t, v) is a rotation of (x_0, n), so that x_0 = sqrt(abar) x_t - sqrt(1 - abar) v."""
    x0, noise = torch.randn(2, 2, 3, 1, 4, 4).double().unbind(0)
    t = torch.tensor([3, 999])
    abar = schedule.alphas_cumprod[t].view(2, 1, 1, 1, 1)
    x_t, v = schedule.add_noise(x0, noise, t), schedule.velocity(x0, noise, t)
    torch.testing.assert_close(abar.sqrt() * x_t - (1 - abar).sqrt() * v, x0)
    reference = DDPMScheduler()
    if schedule is ALL["linear"]:
        torch.testing.assert_close(x_t, reference.add_noise(x0, noise, t), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(v, reference.get_velocity(x0, noise, t), rtol=1e-4, atol=1e-4)


def test_each_frame_may_have_its_own_level():
    x0, noise = torch.randn(2, 1, 3, 2, 4, 4).unbind(0)
    t = torch.tensor([[0, 500, 999]])
    together = ALL["linear"].add_noise(x0, noise, t)
    for f in range(3):
        alone = ALL["linear"].add_noise(x0[:, f], noise[:, f], t[:, f])
        torch.testing.assert_close(together[:, f], alone)


# --------------------------------------------------------------------------------------------------
# Lists.


@pytest.mark.parametrize("steps", [1, 3, 7, 25, 30, 50])
@pytest.mark.parametrize("offset", [0, 1])
def test_leading_timesteps_are_those_of_diffusers(steps, offset):
    reference = DDIMScheduler(timestep_spacing="leading", steps_offset=offset)
    reference.set_timesteps(steps)
    assert torch.equal(s.timesteps_leading(1000, steps, offset=offset), reference.timesteps)


@pytest.mark.parametrize("steps", [1, 3, 7, 25, 30, 50])
def test_trailing_timesteps_are_those_of_diffusers(steps):
    reference = DDIMScheduler(timestep_spacing="trailing")
    reference.set_timesteps(steps)
    assert torch.equal(s.timesteps_trailing(1000, steps), reference.timesteps)


@pytest.mark.parametrize("steps", [3, 7, 25, 50])
def test_linspace_timesteps_are_those_of_diffusers(steps):
    reference = DDIMScheduler(timestep_spacing="linspace")
    reference.set_timesteps(steps)
    assert torch.equal(s.timesteps_linspace(1000, steps), reference.timesteps)


def test_as_many_steps_as_there_are_levels_visit_each_of_them():
    for every in (s.timesteps_leading, s.timesteps_trailing, s.timesteps_linspace):
        assert every(1000, 1000).tolist() == list(range(999, -1, -1))
    assert s.timesteps_linspace(1000, 1).tolist() == [999]  # From pure noise, unlike diffusers.


def test_published_timestep_lists():
    lavie_ddpm = s.timesteps_leading(1000, 50, offset=0).tolist()
    assert lavie_ddpm[:2] == [980, 960] and lavie_ddpm[-2:] == [20, 0]
    lavie_interpolation = s.timesteps_linspace(1000, 50).tolist()
    assert lavie_interpolation[::-1][:5] == [0, 20, 41, 61, 82]
    assert lavie_interpolation[:2] == [999, 979]
    lvdm = s.timesteps_strided(1000, 50).tolist()
    assert lvdm[::-1][:2] == [1, 21] and lvdm[0] == 981
    assert [len(s.timesteps_strided(1000, n)) for n in (7, 30, 50)] == [8, 31, 50]
    assert s.timesteps_strided(1000, 3).max() < 1000


@given(st.integers(2, 60), st.sampled_from(sorted(s.SIGMA_LISTS)), st.sampled_from(sorted(ALL)))
def test_every_list_falls_to_zero(steps, name, schedule):
    sigmas = s.SIGMA_LISTS[name](ALL[schedule], steps)
    assert sigmas.dtype == torch.float32
    assert sigmas[-1] == 0 and (sigmas.diff() < 0).all() and sigmas.isfinite().all()
    assert len(sigmas) >= steps + 1 if name == "strided" else len(sigmas) == steps + 1


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace", "karras", "exponential"])
def test_sigma_lists_are_those_of_diffusers(spacing):
    reference = EulerDiscreteScheduler(
        beta_schedule="scaled_linear",
        beta_start=8.5e-4,
        beta_end=1.2e-2,
        steps_offset=1 if spacing == "leading" else 0,
        timestep_spacing=spacing if spacing in ("leading", "trailing") else "linspace",
        use_karras_sigmas=spacing == "karras",
        use_exponential_sigmas=spacing == "exponential",
    )
    reference.set_timesteps(10)
    sigmas = s.get_sigmas(spacing, ALL["scaled_linear"], 10)
    # The linspace timesteps of diffusers' Euler are real numbers; ours of that name are integers.
    rtol = 1e-2 if spacing == "linspace" else 1e-4
    torch.testing.assert_close(sigmas, reference.sigmas, rtol=rtol, atol=1e-5)


def test_karras_list_of_stable_video_diffusion():
    sigmas = s.get_sigmas_karras(25, 0.002, 700.0)
    wanted = torch.tensor([700.0, 545.7294921875, 421.5691223144531, 322.4537658691406])
    torch.testing.assert_close(sigmas[:4], wanted, rtol=1e-6, atol=0)
    assert abs(sigmas[-2].item() - 0.002) < 1e-8


def test_a_list_may_end_on_the_first_sigma():
    schedule = ALL["linear"]
    sigmas = s.get_sigmas_leading(schedule, 50, offset=1, end_on_first=True)
    assert sigmas[-1].item() == pytest.approx(schedule.sigma_min)
    assert torch.equal(sigmas[:-1], s.get_sigmas_leading(schedule, 50, offset=1)[:-1])


@pytest.mark.parametrize("steps", [1, 3, 30])
def test_the_even_lists_are_even_in_timesteps(steps, schedule):
    """From N-1 down to 0 with "normal", to one spacing above 0 with "uniform"."""
    t = torch.arange(steps, dtype=torch.float64)
    told = {name: schedule.timestep(s.get_sigmas(name, schedule, steps)[:-1]).double()
            for name in ("normal", "uniform")}  # fmt: skip
    near = dict(rtol=0, atol=2e-3)
    torch.testing.assert_close(told["normal"], 999 * (1 - t / max(steps - 1, 1)), **near)
    torch.testing.assert_close(told["uniform"], 999 * (1 - t / steps), **near)


def test_strength_keeps_the_end_of_a_list():
    schedule = ALL["linear"]
    full = s.get_sigmas("leading", schedule, 40)
    assert torch.equal(s.get_sigmas("leading", schedule, 20, strength=0.5), full[20:])


@pytest.mark.parametrize("name", ["normal", "uniform", "karras", "exponential"])
@pytest.mark.parametrize(("steps", "strength"), [(1500, 1.0), (20, 0.01), (700, 0.5)])
def test_lists_may_be_longer_than_the_schedule(name, steps, strength):
    schedule = s.scaled_linear()
    sigmas = s.get_sigmas(name, schedule, steps, strength=strength)
    whole = s.get_sigmas(name, schedule, int(steps / strength))
    assert len(sigmas) == steps + 1 and len(whole) == int(steps / strength) + 1
    assert torch.equal(sigmas, whole[-(steps + 1) :])
    assert bool((whole.diff() < 0).all())
    assert whole[0].item() == pytest.approx(schedule.sigma_max, rel=1e-5)


def test_the_strided_list_has_at_most_every_step_but_the_first():
    schedule = s.scaled_linear()
    sigmas = s.get_sigmas("strided", schedule, 2500)
    assert torch.equal(sigmas[:-1], schedule.sigmas[1:].flip(0).float())
    assert torch.equal(s.get_sigmas("strided", schedule, 20, strength=0.01), sigmas[-21:])


@pytest.mark.parametrize("name", s.INTEGER_LISTS)
def test_lists_of_integers_say_how_many_there_are(name):
    with pytest.raises(ValueError, match=f"600 steps .* 0.5 .* 1200, but .* {name} .* 1000"):
        s.get_sigmas(name, s.scaled_linear(), 600, strength=0.5)
    assert len(s.get_sigmas(name, s.scaled_linear(), 900)) == 901


def test_whole_steps_are_the_nearest_in_log_sigma():
    schedule = s.scaled_linear()
    whole = s.NoiseSchedule(schedule.alphas_cumprod, whole_steps=True)
    sigmas = s.get_sigmas_karras(50, schedule.sigma_min, schedule.sigma_max)[:-1]
    distances = sigmas.double().log()[:, None] - schedule.sigmas.log()
    assert torch.equal(whole.timestep(sigmas), distances.abs().argmin(1).float())
    assert bool((schedule.timestep(sigmas) != whole.timestep(sigmas)).any())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: s.timesteps_leading(1000, 1001), "1000.*1001"),
        (lambda: s.timesteps_leading(1000, 1000, offset=1), "1000"),
        (lambda: s.get_sigmas_karras(10, 2.0, 1.0), "2.0 and 1.0"),
        (lambda: s.get_sigmas_exponential(10, 0.0, 1.0), "0.0 and 1.0"),
        (lambda: s.get_sigmas_karras(0, 0.1, 1.0), "at least 1, got 0"),
        (lambda: s.timesteps_trailing(1000, 0), "1000.*0"),
        (lambda: s.get_sigmas("karas", s.linear(), 10), "karas.*karras"),
        (lambda: s.get_sigmas("leading", s.linear(), 10, strength=0.0), "0.0"),
        (lambda: s.NoiseSchedule(torch.tensor([0.5, 0.7])), "0.5.*0.7"),
        (lambda: s.NoiseSchedule(torch.tensor(0.5)), r"\(\)"),
    ],
)
def test_mistakes_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
