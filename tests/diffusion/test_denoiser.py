import pytest
import torch
from videoldm.core.diffusion import denoiser as d
from videoldm.core.diffusion import schedules as s

SCHEDULE = s.zero_terminal_snr(s.scaled_linear())
SIGMAS = [0.03, 1.0, 14.6, 4518.0]


def predictions(x0, noise, sigma):
    a = (1 + sigma**2).rsqrt()
    return {"eps": noise, "v": a * noise - sigma * a * x0, "x0": x0}


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
        (d.v_from_x0(x_vp, x0, sigma), v),
        (d.to_ve(x_vp, sigma), x0 + sigma * noise),
    ]:
        torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-6)


def test_the_two_forms_meet_at_zero_noise():
    x = torch.randn(1, 2, 3, 4, 4)
    assert torch.equal(d.to_vp(x, torch.tensor(0.0)), x)
    assert torch.equal(d.to_ve(x, torch.tensor(0.0)), x)
