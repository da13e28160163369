import pytest
import torch
from videoldm.core.diffusion import guidance as g
from videoldm.core.diffusion.denoiser import to_vp, v_from_x0

X = torch.randn(2, 5, 4, 3, 3, generator=torch.Generator().manual_seed(0))
SIGMA = torch.tensor(1.7)


def cond(x, sigma):
    sigma = g.broadcast(sigma, x)
    return (x / (1 + sigma**2)).tanh()


def uncond(x, sigma):
    sigma = g.broadcast(sigma, x)
    return (x / (1 + sigma**2)).sin() * 0.5


def never(x, sigma):
    raise AssertionError("This denoiser must not be evaluated.")


def test_scale_one_is_the_conditioned_denoiser_alone():
    assert g.guided(cond, never, 1.0) is cond
    assert g.context_guided(cond, never, 1) is cond


def test_scale_zero_is_the_unconditioned_denoiser():
    torch.testing.assert_close(g.guided(cond, uncond, 0.0)(X, SIGMA), uncond(X, SIGMA))


def test_guidance_extrapolates():
    a, b = cond(X, SIGMA), uncond(X, SIGMA)
    torch.testing.assert_close(g.guided(cond, uncond, 7.5)(X, SIGMA), 7.5 * a - 6.5 * b)


def test_guidance_of_denoised_is_guidance_of_eps_and_v():
    """At one (x, sigma) the predictions are affine in each other, so guidance commutes."""
    denoised = g.guided(cond, uncond, 4.0)(X, SIGMA)
    x_vp = to_vp(X, SIGMA)
    v_cond, v_uncond = (v_from_x0(x_vp, f(X, SIGMA), SIGMA) for f in (cond, uncond))
    torch.testing.assert_close(
        v_from_x0(x_vp, denoised, SIGMA), g.combine(v_cond, v_uncond, 4.0), rtol=1e-4, atol=1e-4
    )


def test_branches_take_part_frame_by_frame_where_levels_differ():
    early, late = g.Branch(cond, last=2.0), g.Branch(uncond, first=2.0)
    sigma = torch.tensor([[0.5, 1.0, 3.0, 4.0, 5.0]]).expand(2, -1)
    answer = g.averaged([early, late])(X, sigma)
    assert torch.equal(answer[:, :2], uncond(X, sigma)[:, :2])
    assert torch.equal(answer[:, 2:], cond(X, sigma)[:, 2:])


def test_branches_are_evaluated_where_a_frame_with_noise_is_in_their_range():
    early, late = g.Branch(cond, last=2.0), g.Branch(never, first=2.0)
    sigma = torch.tensor([[0.0, 0.0, 3.0, 4.0, 5.0]])
    g.averaged([early, late])(X, sigma)


def test_the_level_of_a_window_is_that_of_its_middle_frame_with_noise():
    assert g.window_level(torch.tensor([[0.0, 0.0, 3.0, 4.0, 5.0]])) == 4
    assert g.window_level(torch.tensor([2.0, 2.0])) == g.window_level(torch.tensor(2.0)) == 2
    assert g.window_level(torch.zeros(1, 3)) == 0


def test_one_scale_per_frame():
    scale = g.per_frame_scale(1.0, 2.5, 5)
    torch.testing.assert_close(scale, torch.tensor([1.0, 1.375, 1.75, 2.125, 2.5]))
    together = g.guided(cond, uncond, scale)(X, SIGMA)
    for f in range(5):
        alone = g.combine(cond(X, SIGMA), uncond(X, SIGMA), scale[f].item())
        torch.testing.assert_close(together[:, f], alone[:, f])


def test_a_wrong_number_of_scales_names_both():
    with pytest.raises(ValueError, match="4 guidance scales.*5 frames"):
        g.guided(cond, uncond, torch.ones(4))(X, SIGMA)


@pytest.mark.parametrize("sigma", [SIGMA, torch.tensor([0.3, 9.0])])
@pytest.mark.parametrize("scale", [1.0, 5.0, torch.linspace(1, 3, 5)])
def test_one_call_gives_the_same_as_two(sigma, scale):
    calls = []

    def both(x, sigma):
        calls.append(len(x))
        s = sigma.expand(len(x)).view(-1, 1, 1, 1, 1)
        a, b = x.chunk(2)
        return torch.cat([cond(a, s[: len(a)]), uncond(b, s[len(a) :])])

    s = sigma.expand(2).view(-1, 1, 1, 1, 1)
    wanted = g.combine(cond(X, s), uncond(X, s), scale)
    torch.testing.assert_close(g.batched(both, scale)(X, sigma), wanted)
    assert calls == [4]


def test_rescale_restores_the_deviation_of_each_sample():
    positive, strong = cond(X, SIGMA), 3 * cond(X, SIGMA) + X
    axes = (1, 2, 3, 4)
    full = g.rescale(strong, positive, 1.0)
    torch.testing.assert_close(full.std(axes), positive.std(axes))
    assert torch.equal(g.rescale(strong, positive, 0.0), strong)
    half = g.rescale(strong, positive, 0.5)
    torch.testing.assert_close(half, (full + strong) / 2)


@pytest.mark.parametrize("prediction", ["eps", "v", "x0"])
def test_rescaled_guidance(prediction):
    plain = g.guided(cond, uncond, 6.0)(X, SIGMA)
    tiny = g.rescaled(cond, uncond, 6.0, 1e-6, prediction=prediction)(X, SIGMA)
    torch.testing.assert_close(tiny, plain, rtol=1e-3, atol=1e-3)
    assert torch.equal(g.rescaled(cond, uncond, 6.0, 0.0)(X, SIGMA), plain)
    strong = g.rescaled(cond, uncond, 6.0, 1.0, prediction=prediction)(X, SIGMA)
    assert not torch.allclose(strong, plain)


def test_rescaled_guidance_keeps_the_deviation_of_v():
    strong = g.rescaled(cond, uncond, 6.0, 1.0)(X, SIGMA)
    x_vp = to_vp(X, SIGMA)
    got, wanted = (v_from_x0(x_vp, d, SIGMA) for d in (strong, cond(X, SIGMA)))
    axes = (1, 2, 3, 4)
    torch.testing.assert_close(got.std(axes), wanted.std(axes), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prediction", ["eps", "v", "x0"])
def test_frames_without_noise_are_not_rescaled(prediction):
    """Such as the finished frames that rolling windows still see."""
    sigma, some = torch.tensor([[0.0, 0.0, 0.5, 1.0, 2.0]]).expand(2, -1), slice(2, None)
    x0, strong = (torch.tanh(k * X) for k in (0.5, 1.0))
    made = g.rescaled_x0(X, sigma, x0, strong, 0.7, prediction=prediction)
    assert torch.equal(made[:, :2], strong[:, :2])
    noisy = (one[:, some] for one in (X, sigma, x0, strong))
    alone = g.rescaled_x0(*noisy, 0.7, prediction=prediction)
    assert torch.equal(made[:, some], alone) and torch.isfinite(made).all()


def test_phi_outside_its_range_is_an_error():
    with pytest.raises(ValueError, match="1.5"):
        g.rescaled(cond, uncond, 2.0, 1.5)


def test_known_frames_come_out_as_given():
    known = torch.randn(X.shape)
    mask = torch.tensor([1.0, 0, 0, 0, 1]).view(1, 5, 1, 1, 1)
    denoised = g.masked(cond, known, mask)(X, SIGMA)
    torch.testing.assert_close(denoised[:, [0, 4]], known[:, [0, 4]])
    assert torch.equal(denoised[:, 1:4], cond(X, SIGMA)[:, 1:4])


def test_the_network_sees_known_frames_at_the_current_noise_level():
    known, noise = torch.randn(2, *X.shape).unbind(0)
    mask = torch.tensor([1.0, 0, 0, 0, 0]).view(1, 5, 1, 1, 1)
    seen = []

    def spy(x, sigma):
        seen.append(x)
        return x

    g.masked(spy, known, mask, noise=noise)(X, SIGMA)
    torch.testing.assert_close(seen[0][:, 0], (known + SIGMA * noise)[:, 0])
    assert torch.equal(seen[0][:, 1:], X[:, 1:])
