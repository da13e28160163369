import pytest
import torch
from model_toys import fill, normal
from torch import nn
from videoldm.core.networks.layers import group_norms as m

LAST = dict(memory_format=torch.channels_last)


def frames(count=6, *, mean=0.0, side=5):
    h = mean + normal(count, 16, side, side + 1) * torch.arange(1.0, 17.0)[:, None, None]
    return h.contiguous(**LAST)


@pytest.fixture(params=[2**14, 7], ids=["together", "in parts"])
def positions(request, monkeypatch):
    monkeypatch.setattr(m, "POSITIONS", request.param)


@pytest.mark.parametrize("pooled", [1, 3, 6])
@pytest.mark.parametrize("mean", [0.0, 50.0])
@pytest.mark.parametrize("own", [False, True])
def test_a_multiplication_and_an_addition_are_the_norm(pooled, mean, own, positions):
    norm, h = fill(nn.GroupNorm(4, 16, eps=1e-3)), frames(mean=mean)
    before = h.clone()
    with torch.no_grad():
        assert m.is_affine(norm, h)
        out = m.group_norm(norm, h, pooled, inplace=own)
    video = before.double().unflatten(0, (-1, pooled)).transpose(1, 2)
    expected = norm.double()(video).transpose(1, 2).flatten(0, 1)
    torch.testing.assert_close(out.double(), expected, atol=1e-5, rtol=1e-5)
    assert out.is_contiguous(**LAST)
    assert (out.data_ptr() == h.data_ptr()) == own
    assert own or torch.equal(h, before)


def test_other_memory_and_precisions_and_what_is_watched_or_trained_are_left_to_the_norm():
    norm, h = nn.GroupNorm(4, 16), frames()
    watched = nn.GroupNorm(4, 16)
    watched.register_forward_hook(lambda module, args, out: 2 * out)
    assert not m.is_affine(norm, h)
    with torch.no_grad():
        assert m.is_affine(norm, h)
        assert not m.is_affine(norm, h.contiguous())
        assert not m.is_affine(norm.double(), h.double())
        assert not m.is_affine(nn.GroupNorm(4, 16, affine=False), h)
        torch.testing.assert_close(m.group_norm(watched, h), 2 * m.group_norm(norm.float(), h))
