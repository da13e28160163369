import pytest
import torch
from videoldm.core import denoiser as d
from videoldm.core import schedules as s

SCHEDULE = s.zero_terminal_snr(s.scaled_linear())
SIGMAS = [0.03, 1.0, 14.6, 4518.0]


def predictions(x0, noise, sigma):
    a = (1 + sigma**2).rsqrt()
    return {"eps": noise, "v": a * noise - sigma * a * x0, "x0": x0}


@pytest.mark.parametrize("prediction", ["eps", "v", "x0"])
@pytest.mark.parametrize("sigma", SIGMAS)
def test_a_perfect_network_gives_the_clean_sample(prediction, sigma):
    x0, noise = torch.randn(2, 1, 4, 2, 3, 3, dtype=torch.float64).unbind(0)
    sigma = torch.tensor(sigma, dtype=torch.float64)
    network = lambda x, t: predictions(x0, noise, sigma)[prediction]  # noqa: E731
    denoised = d.denoiser_for(prediction, network, SCHEDULE)(x0 + sigma * noise, sigma)
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

    x = x0 + d.broadcast(sigma, x0) * noise
    d.denoiser_for(prediction, network, SCHEDULE)(x, sigma)
    ((x_vp, t),) = seen
    assert torch.equal(t, timesteps.float())
    torch.testing.assert_close(x_vp, SCHEDULE.add_noise(x0, noise, timesteps))


def test_one_sigma_serves_the_whole_batch():
    seen = []

    def network(x, t):
        seen.append(t)
        return x

    denoise = d.eps_denoiser(network, SCHEDULE)
    x, sigma = torch.randn(3, 2, 1, 2, 2), SCHEDULE.sigmas[123].float()
    torch.testing.assert_close(denoise(x, sigma), denoise(x, sigma.expand(3)))
    assert [t.tolist() for t in seen] == [[123.0] * 3] * 2


def test_each_frame_may_have_its_own_sigma():
    network = lambda x, t: x.sin()  # noqa: E731
    denoise = d.v_denoiser(network, SCHEDULE)
    x, sigma = torch.randn(2, 3, 1, 2, 2), torch.rand(2, 3) + 0.1
    together = denoise(x, sigma)
    for f in range(3):
        torch.testing.assert_close(together[:, f], denoise(x[:, f], sigma[:, f]))


@pytest.mark.parametrize("sigma", SIGMAS)
def test_conversions_agree_with_the_definitions(sigma):
    x0, noise = torch.randn(2, 1, 4, 2, 3, 3, dtype=torch.float64).unbind(0)
    sigma = torch.tensor(sigma, dtype=torch.float64)
    x_vp = d.to_vp(x0 + sigma * noise, sigma)
    v = predictions(x0, noise, sigma)["v"]
    for got, wanted in [
        (d.x0_from_eps(x_vp, noise, sigma), x0),
        (d.x0_from_v(x_vp, v, sigma), x0),
        (d.eps_from_x0(x_vp, x0, sigma), noise),
        (d.eps_from_v(x_vp, v, sigma), noise),
        (d.v_from_x0(x_vp, x0, sigma), v),
        (d.v_from_eps(x_vp, noise, sigma), v),
        (d.to_ve(x_vp, sigma), x0 + sigma * noise),
    ]:
        torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-6)


def test_the_two_forms_meet_at_zero_noise():
    x = torch.randn(1, 2, 3, 4, 4)
    assert torch.equal(d.to_vp(x, torch.tensor(0.0)), x)
    assert torch.equal(d.to_ve(x, torch.tensor(0.0)), x)


def test_edm_preconditioning():
    """c_skip = 1/(s^2+1), c_out = -s/sqrt(s^2+1), c_in = 1/sqrt(s^2+1), c_noise = ln(s)/4."""
    x, sigma = torch.randn(2, 3, 1, 4, 4), torch.tensor(700.0)
    denoised = d.edm_v_denoiser(lambda x, c: x.cos() + c.view(-1, 1, 1, 1, 1))(x, sigma)
    prediction = (x / (sigma**2 + 1).sqrt()).cos() + 0.25 * sigma.log()
    wanted = x / (sigma**2 + 1) - prediction * sigma / (sigma**2 + 1).sqrt()
    torch.testing.assert_close(denoised, wanted)


def test_half_precision_survives_the_largest_sigma():
    x = torch.randn(1, 2, 3, 4, 4).half() * 4518
    for prediction in ("v", "x0"):
        denoise = d.denoiser_for(prediction, lambda x, t: x, SCHEDULE)
        for sigma in (torch.tensor(4518.0), torch.tensor([4518.0])):
            denoised = denoise(x, sigma)
            assert denoised.dtype == torch.float16 and denoised.isfinite().all()


def test_an_unknown_prediction_is_named():
    with pytest.raises(ValueError, match="'epsilon'.*eps, v, x0"):
        d.denoiser_for("epsilon", lambda x, t: x, SCHEDULE)
