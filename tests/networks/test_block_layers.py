from pathlib import Path

import pytest
import torch
from einops import rearrange
from model_toys import fill, normal
from safetensors.torch import load_file
from videoldm.core.networks.layers import block_attention as m
from videoldm.core.networks.layers.positions import rotary_angles, rotate
from videoldm.core.networks.layers.specs import LayerInputs

TABLES = load_file(Path(__file__).parents[1] / "golden" / "lavie" / "tables" / "tables.safetensors")
FRAMES = 5


def tokens(b=2, t=FRAMES, n=6, c=32, seed=0):
    return normal(b * t, n, c, seed=seed)


def attention(**changes):
    return m.BlockAttentionSpec(heads=2, **changes).build(32).eval()


def module(**changes):
    return m.TemporalModuleSpec(norm_groups=4, embedding=8, **changes).build(32).eval()


@pytest.mark.parametrize("frames", [5, 8, 13, 16, 32, 61, 64])
def test_buckets_are_the_originals(frames):
    assert torch.equal(m.relative_buckets(frames), TABLES[f"relpos_bucket_T{frames}"])


def test_a_key_in_the_future_has_a_row_of_its_own():
    buckets = m.relative_buckets(100)
    assert buckets.min() == 0 and buckets.max() == 31
    future = torch.ones(100, 100).triu(1).bool()
    assert (buckets[future] >= 16).all() and (buckets[~future] < 16).all()


def test_phases_are_the_originals():
    phases = m.rotary_phases(64)
    torch.testing.assert_close(m.rotary_frequencies(), TABLES["rotary_freqs"])
    torch.testing.assert_close(phases.real, TABLES["rotary_cos_64x16"], atol=2e-5, rtol=0)
    torch.testing.assert_close(phases.imag, TABLES["rotary_sin_64x16"], atol=2e-5, rtol=0)


def test_turning_is_a_rotation_of_adjacent_pairs():
    x = normal(2, 9, 40)
    expected = rotate(x, rotary_angles(torch.arange(9), 32))
    torch.testing.assert_close(m.turn(x, m.rotary_phases(9)), expected)
    assert m.turn(x.half(), m.rotary_phases(9)).dtype == torch.float16


@pytest.mark.parametrize("positions", m.BLOCK_POSITIONS)
def test_untrained_attention_is_the_identity(positions):
    x = tokens()
    assert torch.equal(attention(positions=positions)(x, FRAMES), x)


def test_untrained_module_is_the_identity():
    h = normal(2 * FRAMES, 32, 3, 4)
    told = LayerInputs(embedding=normal(2 * FRAMES, 8))
    assert torch.equal(module()(h, FRAMES, told), h)
    assert not torch.allclose(fill(module())(h, FRAMES, told), h)


@pytest.mark.parametrize("positions", m.BLOCK_POSITIONS)
def test_attention_stays_at_its_place_and_in_its_clip(positions):
    layer, x = fill(attention(positions=positions)), tokens()
    out = layer(x, FRAMES)
    changed = rearrange(x.clone(), "(b t) n c -> b t n c", t=FRAMES)
    changed[0, 3, 2, 0] += 3
    moved = layer(changed.flatten(0, 1), FRAMES) - out
    moved = rearrange(moved, "(b t) n c -> b t n c", t=FRAMES).abs().amax(-1) > 1e-6
    assert moved[0, :, 2].all()
    moved[0, :, 2] = False
    assert not moved.any()


def test_only_positions_tell_the_order_of_frames():
    order = torch.tensor([3, 0, 4, 1, 2])
    for positions, ordered in (("none", False), ("rotary_and_bias", True)):
        layer, x = fill(attention(positions=positions)), tokens(b=1)
        same = torch.allclose(layer(x[order], FRAMES), layer(x, FRAMES)[order], atol=1e-5)
        assert same != ordered


@pytest.mark.parametrize("frames", [1, 2, 7, 17, 40])
def test_any_number_of_frames(frames):
    out = fill(attention())(tokens(t=frames), frames)
    assert torch.isfinite(out).all()


def test_strength_scales_what_is_added():
    layer, x = fill(attention()), tokens()
    full, half = layer(x, FRAMES) - x, layer(x, FRAMES, strength=0.5) - x
    torch.testing.assert_close(half, 0.5 * full, atol=1e-6, rtol=1e-4)


def test_one_training_step_moves_every_weight_that_can_move():
    layer = attention()
    torch.nn.init.normal_(layer.to_out.weight)
    layer(tokens(), FRAMES).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in layer.parameters())


@pytest.mark.parametrize(
    "arguments, words",
    [
        (dict(width=30, heads=4), "30 must be divisible by 4"),
        (dict(width=4, heads=4), "1 channels"),
        (dict(width=4, heads=1, positions="sideways"), "sideways"),
        (dict(width=4, heads=1, block_place="inside"), "block_place is before.*got 'inside'"),
    ],
)
def test_what_cannot_be_built_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        width = arguments.pop("width")
        m.BlockAttentionSpec(**arguments).build(width)
