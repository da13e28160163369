import pytest
import torch
from factorised_toys import CONFIGS, network
from model_toys import fill, normal
from torch import nn
from videoldm.core.kernels import parts as m
from videoldm.core.networks import layer_calls
from videoldm.core.networks.conditions import Conditions
from videoldm.core.networks.layers.block_attention import BlockAttentionSpec
from videoldm.core.networks.layers.motion_module import MotionModuleSpec
from videoldm.core.networks.layers.scales import Scales
from videoldm.core.networks.layers.specs import LayerInputs
from videoldm.core.networks.layers.video_layers import FrameTransformerSpec, VideoBlockSpec

CLOSE = dict(atol=1e-5, rtol=1e-5)
LAYERS = [
    BlockAttentionSpec(heads=2),
    BlockAttentionSpec(heads=2, learned_blend=True),
    VideoBlockSpec(heads=2),
    VideoBlockSpec(heads=2, text=8),
    MotionModuleSpec(heads=2, norm_groups=8),
    FrameTransformerSpec(heads=2, head_width=16, norm_groups=8),
]


@pytest.fixture
def few(monkeypatch):
    """One frame, position or token at a time."""
    monkeypatch.setattr(m, "ROWS", 0)


@pytest.mark.parametrize("axis, sizes", [(0, [1] * 4), (1, [1] * 6), (None, [1] * 24)])
@pytest.mark.parametrize("own", [True, False])
def test_every_part_is_handled_once(axis, sizes, own, few):
    tokens, seen = normal(4, 6, 5), []
    expected = 2 * tokens
    before = tokens.clone()
    with torch.no_grad():
        out = m.few_at_a_time(
            lambda part: seen.append(part.shape[axis or 0]) or 2 * part, tokens, axis, own=own
        )
    assert torch.equal(out, expected) and seen == sizes
    assert (out is tokens) == own and torch.equal(tokens, out if own else before)


def test_all_at_once_where_gradients_are_needed_or_something_watches(few):
    layer, seen = nn.Linear(5, 5), []
    layer.register_forward_hook(lambda module, args, out: seen.append(out.shape[:2]))
    m.few_at_a_time(layer, normal(4, 6, 5), None)
    with torch.no_grad():
        m.few_at_a_time(layer, normal(4, 6, 5), 1, layer)
    assert seen == [(4, 6), (4, 6)]


def varied(count, kind):
    """A strength and scales: the same everywhere, or one for each frame and position."""
    if kind != "varied":
        return kind, Scales(keys=1.5)
    return normal(6, count, 1).abs(), Scales(keys=normal(6, count, 1).abs())


@pytest.mark.parametrize("spec", LAYERS, ids=lambda spec: f"{spec.kind}")
@pytest.mark.parametrize("kind", [1.0, 0.5, "varied"])
def test_layers_over_time_give_the_same_in_parts(spec, kind, few, monkeypatch):
    layer = fill(spec.build(32)).eval()
    tokens = spec.place is not None
    h = normal(6, 10, 32) if tokens else normal(6, 32, 5, 2)
    strength, scales = varied(10, kind)
    if not tokens and isinstance(strength, torch.Tensor):
        strength = strength.reshape(6, 1, 5, 2)
    inputs, before = LayerInputs(text=normal(2, 3, 8), scales=scales), h.clone()
    with torch.no_grad():
        out = layer(h, 3, inputs, strength)
        monkeypatch.setattr(layer_calls, "FASTER", None)
        plain = layer(h, 3, inputs, strength)
    torch.testing.assert_close(out, plain, **CLOSE)
    assert torch.equal(h, before)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("per_frame", [True, False])
def test_networks_of_videos_give_the_same_in_parts(name, per_frame, few, monkeypatch):
    unet, x = network(name), normal(2, 3, 4, 8, 8)
    frames = (3,) if per_frame else ()
    text, image = unet.config.attention.text, unet.config.attention.image
    given = Conditions(
        text=normal(2, *frames, 5, text) if text else None,
        image=normal(2, *frames, 2, image, seed=1) if image else None,
    )
    with torch.no_grad():
        out = unet(x, torch.tensor(500), given)
        monkeypatch.setattr(layer_calls, "FASTER", None)
        plain = unet(x, torch.tensor(500), given)
    torch.testing.assert_close(out, plain, atol=1e-4, rtol=1e-4)
