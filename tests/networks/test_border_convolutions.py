import pytest
import torch
import torch.nn.functional as F
from model_toys import fill, normal
from torch import nn
from videoldm.core.networks import autoencoder_3d as ae
from videoldm.core.networks import border_convolutions as m

CLOSE = dict(atol=1e-5, rtol=1e-5)


@pytest.fixture(params=[0, 300, 2**22], ids=["one", "few", "all"])
def elements(request, monkeypatch):
    """Elements computed at a time: those of one frame, of a few frames, of all."""
    monkeypatch.setattr(m, "ELEMENTS", request.param)
    return request.param


@pytest.mark.parametrize("kernel, stride", [(3, 1), (4, 2), (4, 1), (2, 1), (4, 3), (1, 1), (5, 1)])
@pytest.mark.parametrize("frames", [3, 9])
def test_parts_make_up_the_convolution_of_the_padded_video(kernel, stride, frames, elements):
    conv = fill(nn.Conv3d(3, 6, kernel, stride=(stride, 1, 2)))
    pads = ae.same_padding(kernel, (stride, 1, 2)) if kernel > 2 else [kernel // 2] * 6
    h = normal(2, 3, frames, 4, 6)
    with torch.no_grad():
        parts = list(m.convolved(conv, h, pads, lambda part, out: torch.mul(part, 2, out=out)))
    expected = conv(F.pad(2 * h, pads, mode="replicate"))
    numbers = [n for at, _ in parts for n in range(at.start, at.stop)]
    assert numbers == list(range(expected.shape[2]))
    if frames == 9:
        assert (len(parts) > 1) == (elements < 2**22)
    torch.testing.assert_close(torch.cat([made for _, made in parts], 2), expected, **CLOSE)


def test_an_autoencoder_gives_the_same_in_parts_and_with_gradients(elements):
    torch.manual_seed(0)
    config = ae.Autoencoder3DConfig(width=16, factors=(4, 2, 2))
    module = fill(ae.Autoencoder3D(config).eval(), scale=0.1)
    video = normal(2, 8, 3, 6, 4).requires_grad_()
    mean = module.posterior(video).mean
    pixels = module(mean) / 100  # brings values near 1, for CLOSE's absolute tolerance
    given = video.detach().clone()
    with torch.no_grad():
        torch.testing.assert_close(module.posterior(given).mean, mean.detach(), **CLOSE)
        torch.testing.assert_close(module(mean.detach()) / 100, pixels.detach(), **CLOSE)
    assert torch.equal(given, video)
    pixels.sum().backward()
    assert video.grad.abs().min() > 0


def test_norms_that_are_not_torchs_own_are_called(elements):
    class Norm(nn.GroupNorm):
        def forward(self, x):
            return super().forward(x) + 1

    class Operations(nn.Module):
        Conv3d, GroupNorm = nn.Conv3d, Norm

    block = fill(ae.ResBlock3D(32, ops=Operations), scale=0.1)
    h = normal(1, 32, 5, 4, 4)
    expected = block(h)
    with torch.no_grad():
        torch.testing.assert_close(block(h.clone()), expected.detach(), **CLOSE)


def test_buffers_are_reused():
    buffers, like = m.Buffers(), normal(1)
    first = buffers("window", (1, 2, 3, 4, 5), like)
    assert buffers("window", (1, 2, 3, 4, 5), like) is first
    others = buffers("between", (1, 2, 3, 4, 5), like), buffers("window", (1, 2, 3, 4, 6), like)
    assert len({buffer.data_ptr() for buffer in (first, *others)}) == 3
