import pytest
import torch
from videoldm.core.diffusion import preconditioning as p
from videoldm.core.diffusion import schedules as s
from videoldm.core.diffusion.denoiser import broadcast

SCHEDULE = s.zero_terminal_snr(s.scaled_linear())
SIGMAS = [0.03, 1.0, 14.6, 4518.0]
EDM, SVD = p.EDMPreconditioning(), p.ContinuousVPreconditioning()
ALL = [*(p.discrete(name, SCHEDULE) for name in p.DISCRETE), EDM, SVD]


def predictions(x0, noise, sigma):
    a = (1 + sigma**2).rsqrt()
    return {"eps": noise, "v": a * noise - sigma * a * x0, "x0": x0}


@pytest.mark.parametrize("prediction", ["eps", "v", "x0"])
@pytest.mark.parametrize("sigma", SIGMAS)
def test_a_perfect_network_gives_the_clean_sample(prediction, sigma):
    x0, noise = torch.randn(2, 1, 4, 2, 3, 3, dtype=torch.float64).unbind(0)
    sigma = torch.tensor(sigma, dtype=torch.float64)
    network = lambda x, t: predictions(x0, noise, sigma)[prediction]  # noqa: E731
    denoised = p.preconditioned(network, p.discrete(prediction, SCHEDULE))(
        x0 + sigma * noise, sigma
    )
    torch.testing.assert_close(denoised, x0, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("prediction", ["eps", "v", "x0"])
def test_the_network_sees_the_vp_sample_and_the_timestep(prediction):
    seen = []
    x0, noise = torch.randn(2, 2, 4, 2, 3, 3).unbind(0)
    timesteps = torch.tensor([40, 700])
    sigma = SCHEDULE.sigmas[timesteps].float()

    def network(x, t):
        seen.append((x, t))
        return x

    x = x0 + broadcast(sigma, x0) * noise
    p.preconditioned(network, p.discrete(prediction, SCHEDULE))(x, sigma)
    ((x_vp, t),) = seen
    assert torch.equal(t, timesteps.float())
    torch.testing.assert_close(x_vp, SCHEDULE.add_noise(x0, noise, timesteps))


def test_one_sigma_serves_the_whole_batch():
    seen = []

    def network(x, t):
        seen.append(t)
        return x

    denoise = p.preconditioned(network, p.discrete("eps", SCHEDULE))
    x, sigma = torch.randn(3, 2, 1, 2, 2), SCHEDULE.sigmas[123].float()
    torch.testing.assert_close(denoise(x, sigma), denoise(x, sigma.expand(3)))
    assert [t.tolist() for t in seen] == [[123.0] * 3] * 2


@pytest.mark.parametrize("preconditioning", ALL, ids=lambda one: type(one).__name__)
def test_each_frame_may_have_its_own_sigma(preconditioning):
    network = lambda x, t: x.sin()  # noqa: E731
    denoise = p.preconditioned(network, preconditioning)
    x, sigma = torch.randn(2, 3, 1, 2, 2), torch.rand(2, 3) + 0.1
    together = denoise(x, sigma)
    for f in range(3):
        torch.testing.assert_close(together[:, f], denoise(x[:, f], sigma[:, f]))


@pytest.mark.parametrize("preconditioning", ALL, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("sigma", [0.03, 1.0, 14.6, 700.0])
def test_every_form_is_edms_formula_with_its_four_coefficients(preconditioning, sigma):
    x, sigma = sigma * torch.randn(2, 3, 1, 4, 4), torch.tensor(sigma)
    c = preconditioning.coefficients(sigma)
    network = lambda x_in, c_noise: x_in.cos() + c_noise.view(-1, 1, 1, 1, 1)  # noqa: E731
    wanted = c.c_skip * x + c.c_out * ((c.c_in * x).cos() + c.c_noise)
    denoised = p.preconditioned(network, preconditioning)(x, sigma)
    torch.testing.assert_close(denoised, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sigma", [0.002, 0.5, 80.0])
def test_edms_inputs_and_targets_have_unit_variance(sigma):
    """What c_in, c_skip and c_out are derived from (Karras et al. 2022, appendix B.6)."""
    sigma, data = torch.tensor(sigma, dtype=torch.float64), EDM.sigma_data
    c = EDM.coefficients(sigma)
    noisy = data**2 + sigma**2
    torch.testing.assert_close(c.c_in**2 * noisy, torch.ones_like(sigma))
    # The target (x_0 - c_skip (x_0 + n)) / c_out, for independent x_0 and n.
    target = ((1 - c.c_skip) ** 2 * data**2 + c.c_skip**2 * sigma**2) / c.c_out**2
    torch.testing.assert_close(target, torch.ones_like(sigma))


@pytest.mark.parametrize("sigma", [0.002, 1.0, 700.0])
def test_velocity_over_continuous_sigma_is_edm_of_unit_data_with_the_sign_turned(sigma):
    sigma = torch.tensor(sigma, dtype=torch.float64)
    unit = p.EDMPreconditioning(sigma_data=1.0, sigma_max=700.0).coefficients(sigma)
    ours = SVD.coefficients(sigma)
    for one, other in zip(ours._replace(c_out=-ours.c_out), unit, strict=True):
        torch.testing.assert_close(one, other)
    assert ours.c_noise.item() == pytest.approx(0.25 * torch.log(sigma).item())
    assert (SVD.sigma_min, SVD.sigma_max, SVD.prediction) == (0.002, 700.0, "v")


def test_discrete_forms_range_over_their_schedule():
    one = p.discrete("v", SCHEDULE)
    assert one.sigma_max == pytest.approx(4518.76, rel=1e-4)
    assert one.sigma_min == pytest.approx(SCHEDULE.sigmas[0].item())
    assert one.coefficients(SCHEDULE.sigmas[[7, 999]].float()).c_noise.tolist() == [7, 999]


@pytest.mark.parametrize("rule", ALL, ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("shape", [(), (3,), (3, 2)])
def test_networks_are_told_float32_numbers_one_per_sample_or_frame(rule, shape):
    told = []
    x, sigma = torch.zeros(3, 2, 1, 2, 2), torch.full(shape, 2.0, dtype=torch.float64)
    p.preconditioned(lambda x, t: told.append(t) or x, rule)(x, sigma)
    assert [(t.dtype, t.shape) for t in told] == [(torch.float32, shape or (3,))]


def test_half_precision_survives_the_largest_sigma():
    x = torch.randn(1, 2, 3, 4, 4).half() * 4518
    for prediction in ("v", "x0"):
        denoise = p.preconditioned(lambda x, t: x, p.discrete(prediction, SCHEDULE))
        for sigma in (torch.tensor(4518.0), torch.tensor([4518.0])):
            denoised = denoise(x, sigma)
            assert denoised.dtype == torch.float16 and denoised.isfinite().all()


def test_an_unknown_prediction_is_named():
    with pytest.raises(ValueError, match="'epsilon'.*eps, v, x0"):
        p.discrete("epsilon", SCHEDULE)
