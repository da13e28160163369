import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from model_toys import fill, normal
from videoldm.core.families.embedded.motion_attention import (
    MotionAttention,
    MotionTransformerSpec,
    along_motion,
)
from videoldm.core.networks.layers import positions as p
from videoldm.core.networks.layers import residual as m
from videoldm.core.networks.layers import transformer as tt
from videoldm.core.networks.layers.specs import LayerInputs

CHANNELS, FRAMES = 16, 5


def block(**changes):
    return m.TemporalResBlockSpec(**{"norm_groups": 4} | changes).build(CHANNELS).eval()


def transformer(spec=tt.TemporalTransformerSpec, **changes):
    return spec(heads=2, norm_groups=4, **changes).build(CHANNELS).eval()


def space_time(**changes):
    return transformer(tt.SpaceTimeTransformerSpec, **changes)


def along_motions(**changes):
    return transformer(MotionTransformerSpec, motions=4, **changes)


def folded(b=2, t=FRAMES, h=3, w=4, seed=0):
    return normal(b * t, CHANNELS, h, w, seed=seed)


# -------------------------------------------------------------------------------------- positions


def test_sinusoids_are_cosines_then_sines_of_falling_frequency():
    embedded = p.sinusoid(torch.tensor([0.0, 2.5]), 6)
    angles = [2.5 * 10000 ** (-k / 3) for k in range(3)]
    expected = [math.cos(a) for a in angles] + [math.sin(a) for a in angles]
    torch.testing.assert_close(embedded[1], torch.tensor(expected))
    torch.testing.assert_close(embedded[0], torch.tensor([1.0, 1, 1, 0, 0, 0]))


def test_rotation_keeps_lengths_and_makes_products_depend_on_distance_alone():
    angles = p.rotary_angles(torch.arange(9), 8)
    q, k = normal(8).expand(9, 8), normal(8, seed=1).expand(9, 8)
    q, k = p.rotate(q, angles), p.rotate(k, angles)
    torch.testing.assert_close(q.norm(dim=-1), normal(8).norm().expand(9))
    products = q @ k.T
    for distance in range(-4, 5):
        line = products.diagonal(distance)
        torch.testing.assert_close(line, line[:1].expand_as(line))


def test_channels_beyond_the_rotated_ones_pass_unchanged():
    x = normal(7, 12)
    turned = p.rotate(x, p.rotary_angles(torch.arange(7), 8))
    assert torch.equal(turned[:, 8:], x[:, 8:]) and not torch.equal(turned[1:, :8], x[1:, :8])
    assert p.rotary_width(7) == 6 and p.rotary_width(64) == 32


def test_relative_bias_depends_on_the_clipped_distance():
    bias = fill(p.RelativeBias(2, max_distance=3))
    table = bias.table.weight
    values = bias(9)
    for query in range(9):
        for key in range(9):
            row = min(max(key - query, -3), 3) + 3
            assert torch.equal(values[:, query, key], table[row])


# ------------------------------------------------------------------------------------------ blend


def test_blending_is_the_papers_formula():
    z, residual = normal(4, 3), normal(4, 3, seed=1)
    blend = m.Blend(mix_factor=0.3)
    alpha = torch.sigmoid(torch.tensor(0.3))
    expected = alpha * z + (1 - alpha) * (z + residual)
    torch.testing.assert_close(blend(z, residual), expected)
    halfway = blend(z, residual, strength=0.5)
    torch.testing.assert_close(halfway, (z + expected) / 2)
    torch.testing.assert_close(m.Blend(learned=False)(z, residual), z + residual)


# --------------------------------------------------------------------------------- identity, order

LAYERS = [lambda: block(), lambda: block(pooled_norm=True, embedding=6, context=3)]
LAYERS += [lambda p=p: transformer(positions=p, text=6, context=3) for p in p.POSITIONS]
LAYERS += [lambda: space_time(text=6, embedding=6, context=3)]
LAYERS += [lambda: along_motions(text=6, context=3)]


@pytest.mark.parametrize("make", LAYERS)
@pytest.mark.parametrize("frames", [1, 2, 5])
def test_an_untrained_layer_is_exactly_the_identity(make, frames):
    h = folded(t=frames)
    text, context = normal(2, 7, 6), normal(2 * frames, 3, 3, 4)
    told = LayerInputs(embedding=normal(2 * frames, 6), context=context, text=text)
    assert torch.equal(make()(h, frames, told), h)


@pytest.mark.parametrize("make", LAYERS)
def test_one_step_reaches_the_weights_that_start_at_zero(make):
    layer = make()
    layer(folded(), FRAMES).square().sum().backward()
    last = layer.conv2 if isinstance(layer, m.TemporalResBlock) else layer.project_out
    assert last.weight.grad.abs().max() > 0


@pytest.mark.parametrize("positions", p.POSITIONS)
@pytest.mark.parametrize("frames", range(1, 34))
def test_every_kind_of_position_takes_any_number_of_frames(positions, frames):
    layer = fill(transformer(positions=positions, max_distance=4))
    h = folded(b=1, t=frames, h=1, w=2)
    out = layer(h, frames)
    assert out.shape == h.shape and torch.isfinite(out).all() and not torch.equal(out, h)


@pytest.mark.parametrize("positions", p.POSITIONS)
def test_attention_knows_the_order_of_frames_unless_it_has_no_positions(positions):
    layer = fill(transformer(positions=positions), scale=0.5)
    h = folded(b=1)
    order = torch.tensor([3, 0, 4, 1, 2])
    blind = torch.allclose(layer(h[order], FRAMES), layer(h, FRAMES)[order], rtol=1e-4, atol=1e-4)
    assert blind == (positions == "none")


@pytest.mark.parametrize(
    "make, positions, relative",
    [(transformer, "rotary", True), (space_time, "rotary", True),
     (transformer, "sinusoidal", False), (space_time, "rotary_and_sinusoidal", False),
     (along_motions, "sinusoidal", False)],
)  # fmt: skip
def test_frames_drawn_from_a_clip_are_attended_to_at_their_own_times(make, positions, relative):
    layer = fill(make(positions=positions), scale=0.5)
    h, drawn = folded(b=1), torch.tensor([0, 3, 9, 10, 15])
    counted = layer(h, FRAMES)
    assert torch.equal(layer(h, FRAMES, LayerInputs(times=torch.arange(FRAMES))), counted)
    assert not torch.allclose(layer(h, FRAMES, LayerInputs(times=drawn)), counted, atol=1e-2)
    later = layer(h, FRAMES, LayerInputs(times=drawn + 7))
    assert torch.allclose(layer(h, FRAMES, LayerInputs(times=drawn)), later, atol=1e-3) == relative


# -------------------------------------------------------------------------------- along motions


def test_attention_along_no_motion_is_attention_at_the_same_position():
    moving = fill(MotionAttention(CHANNELS, 2, 4), scale=0.5)
    still = tt.TemporalAttention(CHANNELS, 4, positions="sinusoidal")
    still.to_qkv.weight.data = moving.to_followed.weight
    moving.to_out.weight.data[:, : CHANNELS // 2] = 0  # the heads at the same position
    still.to_out.weight.data = moving.to_out.weight[:, CHANNELS // 2 :]
    still.to_out.bias = moving.to_out.bias
    tokens, times, grid = normal(2, 4 * 12, CHANNELS), torch.tensor([0, 1, 5, 9]), (3, 4)
    expected = still(rearrange(tokens, "b (t n) d -> (b n) t d", t=4), times)
    found = moving(tokens, times, grid, torch.zeros(2, 4, 2))
    torch.testing.assert_close(
        rearrange(found, "b (t n) d -> (b n) t d", t=4), expected, atol=1e-5, rtol=1e-4
    )


def test_points_along_a_motion_show_what_moved_as_if_it_stood_still():
    image, times = normal(1, 6, 8), torch.tensor([0, 1, 3])
    video = torch.stack([image.roll((int(t), -2 * int(t)), dims=(1, 2)) for t in times])
    points = along_motion(torch.tensor([[-2 / 8, 1 / 6]]), times, (6, 8))[0]
    for at in range(3):
        frames = F.grid_sample(video, points[:, at, None], align_corners=False)[:, 0, 0]
        frames = frames.unflatten(1, (6, 8))
        inside = (frames.abs() > 1e-4).all(0)  # zeros come from outside the image
        assert inside.sum() >= 6
        for frame in frames:
            torch.testing.assert_close(frame[inside], video[at, 0][inside], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("heads, motions", [(3, 4), (2, 5), (2, 0)])
def test_heads_that_do_not_divide_the_width_are_refused(heads, motions):
    with pytest.raises(ValueError, match=f"{heads} heads at the same position and {motions} along"):
        MotionAttention(16, heads, motions)


# ------------------------------------------------------------------------ folding, receptive fields


@pytest.mark.parametrize("make, everywhere", [(transformer, False), (space_time, True)])
def test_only_attention_over_the_whole_clip_sees_other_places(make, everywhere):
    layer = fill(make(), scale=0.5).double()
    layer.norm.forward = lambda h, frames: h  # it mixes all places
    h = folded(b=1).double()
    changed = h.clone()
    changed[1, :, 0, 0] = changed[1, :, 0, 0].flip(0) * 4
    moved = (layer(changed, FRAMES) - layer(h, FRAMES)).abs().amax(1)[3] > 0
    assert moved.all() == everywhere and moved[0, 0]


@pytest.mark.parametrize("make", [block, transformer])
def test_videos_of_a_batch_and_positions_of_a_frame_do_not_mix(make):
    layer = fill(make())
    h = folded(b=2)
    out = layer(h, FRAMES)
    torch.testing.assert_close(layer(h[:FRAMES], FRAMES), out[:FRAMES], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(layer(h[FRAMES:], FRAMES), out[FRAMES:], atol=1e-4, rtol=1e-4)


def test_convolution_over_time_is_conv1d_at_every_position():
    conv = fill(torch.nn.Conv3d(CHANNELS, 6, (3, 1, 1), padding=(1, 0, 0)))
    h = folded()
    lines = rearrange(h, "(b t) c h w -> (b h w) c t", t=FRAMES)
    expected = F.conv1d(lines, conv.weight[..., 0, 0], conv.bias, padding=1)
    expected = rearrange(expected, "(b h w) c t -> (b t) c h w", h=3, w=4)
    torch.testing.assert_close(m.over_time(conv, h, FRAMES), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_a_convolution_block_reaches_two_half_kernels_on_either_side(kernel):
    layer = fill(block(kernel=kernel))
    h = folded(b=1, t=17)
    changed = h.clone()
    changed[8] += normal(*h[8].shape, seed=5)
    moved = (layer(h, 17) - layer(changed, 17)).abs().amax((1, 2, 3)) > 0
    reach = 2 * (kernel // 2)
    assert moved.tolist() == [abs(frame - 8) <= reach for frame in range(17)]


def test_attention_reaches_every_frame():
    layer = fill(transformer(), scale=0.5)
    h = folded(b=1, t=9)
    changed = h.clone()
    changed[4] += normal(*h[4].shape, seed=5)
    assert ((layer(h, 9) - layer(changed, 9)).abs().amax((1, 2, 3)) > 0).all()


def test_a_norm_is_per_frame_or_pooled_over_the_clip():
    h = folded(b=2) * torch.arange(1.0, 11.0).reshape(-1, 1, 1, 1)
    for pooled in (False, True):
        norm = m.FrameGroupNorm(4, CHANNELS, eps=1e-6, pooled=pooled)
        pattern = (
            "(b t) (g c) h w -> b g (t c h w)" if pooled else "(b t) (g c) h w -> b t g (c h w)"
        )
        groups = rearrange(norm(h, FRAMES), pattern, t=FRAMES, g=4)
        torch.testing.assert_close(
            groups.std(-1, unbiased=False), torch.ones(groups.shape[:-1]), atol=1e-3, rtol=0
        )
        assert groups.mean(-1).abs().max() < 1e-5


def test_a_prompt_context_and_noise_level_reach_the_output():
    layer = fill(transformer(text=6, context=3, embedding=8))
    h = folded()
    text, context = normal(2, 7, 6), normal(2 * FRAMES, 3, 3, 4)
    told = LayerInputs(text=text, context=context, embedding=normal(2 * FRAMES, 8))
    out = layer(h, FRAMES, told)
    for name in ("text", "context", "embedding"):
        other = replace(told, **{name: getattr(told, name) + 1})
        assert not torch.allclose(layer(h, FRAMES, other), out)
    first = LayerInputs(text=text[:1], context=context[:FRAMES], embedding=told.embedding[:FRAMES])
    one = layer(h[:FRAMES], FRAMES, first)
    torch.testing.assert_close(one, out[:FRAMES], atol=1e-4, rtol=1e-4)


def test_the_gate_is_the_second_half():
    gate = tt.GEGLU(3, expansion=2)
    x = normal(4, 3)
    value, gated = F.linear(x, gate.inner.weight, gate.inner.bias).split(6, dim=-1)
    torch.testing.assert_close(gate(x), gate.outer(value * F.gelu(gated)))


def test_helpers():
    embedding = normal(2, 3)
    assert torch.equal(m.per_frame(embedding, 4), embedding.repeat_interleave(4, dim=0))
    frames = normal(2, 4, 3)
    assert torch.equal(m.per_frame(frames, 4), frames.flatten(0, 1))
    for channels in (32, 48, 64, 160, 320, 1280):
        assert channels % m.heads_for(channels) == 0


def test_what_cannot_be_built_is_refused():
    with pytest.raises(ValueError, match="not 'absolute'"):
        tt.TemporalAttention(8, 2, positions="absolute")
    with pytest.raises(ValueError, match="9 must be divisible by 2"):
        tt.TemporalAttention(9, 2)
    with pytest.raises(ValueError, match="not 'relative'"):
        space_time(positions="relative")
