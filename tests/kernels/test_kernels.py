from importlib.util import find_spec, module_from_spec
from types import SimpleNamespace

import pytest
import torch
from diffusers.models.attention import FeedForward
from model_toys import normal
from torch import nn
from videoldm.core.kernels import onednn as m

CLOSE = dict(atol=1e-5, rtol=1e-5)


def images(n=3, c=8, h=5, w=6):
    return normal(n, c, h, w).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("gradients", [True, False])
def test_a_linear_layer(bias, gradients):
    layer, x = nn.Linear(8, 5, bias=bias), normal(2, 3, 8)
    with torch.set_grad_enabled(gradients):
        out = m.linear(layer, x)
    torch.testing.assert_close(out, layer(x), **CLOSE)
    assert out.requires_grad == gradients


def test_builds_of_torch_without_onednn_load_and_take_torch_s_own_layers(monkeypatch):
    """Such as those for Apple's processors."""
    monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace())
    spec = find_spec(m.__name__)
    without = module_from_spec(spec)
    spec.loader.exec_module(without)
    layer, x = nn.Linear(8, 5), normal(2, 3, 8)
    with torch.no_grad():
        assert torch.equal(without.linear(layer, x), layer(x))


def test_memory_in_another_order():
    layer, x = nn.Linear(8, 5), normal(8, 3, 2).permute(1, 2, 0)
    with torch.no_grad():
        torch.testing.assert_close(m.linear(layer, x), layer(x), **CLOSE)
        unit = nn.Conv2d(8, 5, 1)
        h = images().contiguous()
        torch.testing.assert_close(m.convolution(unit, h), unit(h), **CLOSE)


@pytest.mark.parametrize("kernel, stride", [(1, 1), (3, 1), (3, 2), (1, 2)])
@pytest.mark.parametrize("height, width", [(5, 6), (4, 4), (1, 1), (7, 3)])
@pytest.mark.parametrize("few", [0, 1024])
def test_a_convolution(kernel, stride, height, width, few, monkeypatch):
    monkeypatch.setattr(m, "FEW_POSITIONS", few)
    layer = nn.Conv2d(8, 5, kernel, stride, padding=kernel // 2)
    layer = layer.to(memory_format=torch.channels_last)
    h = images(h=height, w=width)
    with torch.no_grad():
        out = m.convolution(layer, h)
    torch.testing.assert_close(out, layer(h).detach(), **CLOSE)
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_it_is_used_for_few_positions_only(monkeypatch):
    calls, product = [], m.product
    monkeypatch.setattr(m, "product", lambda *a: calls.append(a[0].shape) or product(*a))
    layer = nn.Conv2d(8, 5, 3, padding=1).to(memory_format=torch.channels_last)
    with torch.no_grad():
        m.convolution(layer, images(n=1))
        m.convolution(layer, images(n=1, h=40, w=40))
    assert calls == [(1, 5, 6, 72)]


@pytest.mark.parametrize("kind", ["geglu", "gelu"])
@pytest.mark.parametrize("gradients", [True, False])
def test_a_feed_forward(kind, gradients):
    module, x, plus = FeedForward(8, activation_fn=kind).eval(), normal(2, 3, 8), normal(2, 3, 8)
    with torch.set_grad_enabled(gradients):
        torch.testing.assert_close(
            m.feed_forward(module, 5 * x, plus), module(5 * x) + plus, **CLOSE
        )


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("few", [0, 1024])
def test_what_is_added(kernel, few, monkeypatch):
    monkeypatch.setattr(m, "FEW_POSITIONS", few)
    layer, h = nn.Conv2d(8, 8, kernel, padding=kernel // 2), images()
    layer = layer.to(memory_format=torch.channels_last)
    plain, x = nn.Linear(8, 8), normal(4, 8)
    with torch.no_grad():
        torch.testing.assert_close(m.convolution(layer, h, h), layer(h) + h, **CLOSE)
        torch.testing.assert_close(m.linear(plain, x, x), plain(x) + x, **CLOSE)
    assert torch.equal(m.linear(plain, x, x), plain(x) + x)


@pytest.mark.parametrize("few", [0, 1024])
def test_half_precision_rounds_what_single_precision_gives(few, monkeypatch):
    monkeypatch.setattr(m, "FEW_POSITIONS", few)
    layer = nn.Conv2d(8, 8, 3, padding=1).to(memory_format=torch.channels_last)
    plain, feed, h, x = (
        nn.Linear(8, 8),
        FeedForward(8, activation_fn="geglu"),
        images(),
        normal(4, 8),
    )

    def made(kind):
        for module in (layer, plain, feed):
            module.to(kind)
        return (
            m.convolution(layer, h.to(kind), h.to(kind)),
            m.linear(plain, x.to(kind), x.to(kind)),
            m.feed_forward(feed, x.to(kind), x.to(kind)),
        )

    with torch.no_grad():
        half, single = made(torch.bfloat16), made(torch.float32)
    assert all(one.dtype == torch.bfloat16 for one in half)
    for one, exact in zip(half, single, strict=True):
        torch.testing.assert_close(one.float(), exact, atol=0.03, rtol=0.02)


def test_layers_that_are_watched_or_wrapped_or_half_are_called():
    class Wrapped(nn.Linear):
        def forward(self, x):
            return super().forward(x) + 1

    x, wrapped = normal(2, 8), Wrapped(8, 8)
    with torch.no_grad():
        assert torch.equal(m.linear(wrapped, x), wrapped(x))
        watched, seen = nn.Linear(8, 8), []
        watched.register_forward_hook(lambda *a: seen.append(1))
        m.linear(watched, x)
        half = nn.Linear(8, 8).bfloat16()
        assert m.linear(half, x.bfloat16()).dtype == torch.bfloat16
    assert seen


@pytest.mark.parametrize("patches", [1, 9 * 8 * 30 * 2])
@pytest.mark.parametrize("stride", [1, 2])
def test_some_images_at_a_time(patches, stride, monkeypatch):
    sizes, product = [], m.product
    monkeypatch.setattr(m, "PATCHES", patches)
    monkeypatch.setattr(m, "product", lambda x, *a: sizes.append(len(x)) or product(x, *a))
    layer, h = nn.Conv2d(8, 8, 3, stride, padding=1), images(n=5)
    layer = layer.to(memory_format=torch.channels_last)
    with torch.no_grad():
        plus = layer(h).cos()
        out, summed = m.convolution(layer, h), m.convolution(layer, h, plus)
    torch.testing.assert_close(out, layer(h).detach(), **CLOSE)
    torch.testing.assert_close(summed, layer(h).detach() + plus, **CLOSE)
    one = [1] * 5 if patches == 1 else [2, 2, 1] if stride == 1 else [5]
    assert sizes == one + one
