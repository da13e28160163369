"""Strengths of temporal layers as curves that scale the residual, the keys and the queries."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from animatediff_toys import TEXT, VIDEO, toy_config, toy_layers, toy_unet_of_one_seed
from model_toys import fill, normal
from videoldm.core.diffusion.curves import Curve, Line, StepAt, per_frame
from videoldm.core.networks.conditions import Conditions
from videoldm.core.networks.injected_sets import InjectedSets, Injection, LayerPass, grid_of
from videoldm.core.networks.layers.block_attention import BlockAttentionSpec
from videoldm.core.networks.layers.motion_module import MotionModuleSpec
from videoldm.core.networks.layers.scales import Scales
from videoldm.core.networks.layers.specs import LayerInputs
from videoldm.core.networks.layers.transformer import (
    SpaceTimeTransformerSpec,
    TemporalTransformerSpec,
)
from videoldm.core.networks.layers.video_layers import FrameTransformerSpec, VideoBlockSpec
from videoldm.core.networks.layers.views import Views
from videoldm.core.networks.temporal_layers import Strength
from videoldm.core.networks.video_unet import inject

LAST_STEP, FRAMES, NONE = StepAt(9, 10), 4, Strength(overall=0.0)
OFF_LATE = Curve(lines=(Line(((0, 1), (0.5, 0)), "hold"),))


@cache
def layers_of(variant):
    return toy_layers(toy_config(variant))


def forward(strength=NONE, **given):
    """The output with the v1 layers, which also change the norms of their host."""
    network = inject(toy_unet_of_one_seed(), layers_of("v1"), strength)
    with torch.no_grad():
        return network(VIDEO[:, :FRAMES], torch.tensor(500), Conditions(text=TEXT, **given))


@pytest.mark.parametrize("value", [0.0, 0.7, 1.0])
def test_a_constant_curve_is_the_number_bit_for_bit(value):
    number = forward(Strength(overall=value))
    drawn = Curve(lines=(Line(((0, value), (0.4, value), (1, value)), "smooth"),))
    listed = Curve(lines=(Line(((0, value), (3, value)), "linear", "frames"),))
    for curve in (Curve(value), drawn, listed, per_frame([value] * FRAMES)):
        assert torch.equal(forward(Strength(curve=curve), step=StepAt(3, 7)), number)


def test_where_a_curve_is_0_the_model_is_the_image_model_bit_for_bit():
    image, whole = forward(), forward(Strength())
    assert torch.equal(forward(Strength(curve=OFF_LATE), step=LAST_STEP), image)
    assert torch.equal(forward(Strength(curve=OFF_LATE), step=StepAt(0, 10)), whole)
    assert torch.equal(forward(Strength(curve=per_frame([0.0] * FRAMES))), image)
    assert not torch.allclose(image, whole, atol=1e-2)


def residuals(strength, frames=None, size=(8, 8)):
    """The residual [2, 4, 32, h, w] that the v2 layer of one site adds to fixed activations."""
    sets = InjectedSets([Injection(layers_of("v2"), strength)])
    act = LayerPass(sets, Conditions(frames=frames), (2, FRAMES, 4, *size), "cpu")
    act.add_embedding(torch.zeros(2, 128))
    h = normal(2 * FRAMES, 32, *size, seed=7)
    with torch.no_grad():
        return (act("down.0.attn.0", h) - h).unflatten(0, (2, FRAMES))


def test_every_frame_gets_its_own_strength_by_its_absolute_number():
    whole, values = residuals(Strength()), [0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0]
    curve = Strength(overall=0.5, curve=per_frame(values))
    for frames in (None, (3, 4, 5, 6), (6, 0, 1, 2)):
        found = residuals(curve, frames)
        for k, frame in enumerate(frames or range(FRAMES)):
            expected = 0.5 * values[frame] * whole[:, k]
            torch.testing.assert_close(found[:, k], expected, atol=1e-5, rtol=1e-5)


def test_a_mask_says_where_the_residual_acts():
    mask = torch.zeros(FRAMES, 16, 16)
    mask[1, :, 8:] = 1
    mask[3] = 0.5
    whole, found = residuals(Strength()), residuals(Strength(curve=Curve(masks=(mask,))))
    assert not found[:, [0, 2]].any()
    torch.testing.assert_close(found[:, 3], 0.5 * whole[:, 3], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[:, 1, :, :, 5:], whole[:, 1, :, :, 5:], atol=1e-5, rtol=1e-5)
    assert found[:, 1, :, :, :3].abs().max() < 1e-5


@pytest.mark.parametrize(
    ("tokens", "size", "grid"),
    [(64, (8, 8), (8, 8)), (16, (8, 8), (4, 4)), (15, (10, 6), (5, 3)), (6, (10, 6), (3, 2))],
)
def test_tokens_of_a_level_are_a_grid(tokens, size, grid):
    assert grid_of(tokens, size) == grid


def test_numbers_for_sites_may_concern_keys_or_queries():
    strength = Strength(sites={"mid": 0.5, "up.keys": 0.8, "up.1.keys": 0.5, "mid.queries": 3.0})
    assert strength.at("up.1.attn.0") == 1.0
    assert strength.at("mid.attn.0") == 0.5
    assert strength.keys_at("up.1.attn.0").constant == 0.4
    assert strength.keys_at("mid.attn.0").constant == 1.0
    assert strength.queries_at("mid.attn.0").constant == 3.0
    assert strength.scales_attention
    assert not Strength(sites={"mid": 0.5}).scales_attention


# --------------------------------------------------------------------------------------------------
# Curves of single sites.

SITE, BESIDE = "down.0.attn.0", ("down.0.attn.1", "down.1", "mid", "up")
LATE = Curve(lines=(Line(((0, 0.2), (1, 0.8))),))


def test_a_curve_of_a_site_acts_there_and_nowhere_else():
    found = residuals(Strength(curve=LATE.within([SITE])))
    torch.testing.assert_close(found, residuals(Strength(curve=LATE)), atol=0, rtol=0)
    for place in BESIDE:
        elsewhere = residuals(Strength(curve=LATE.within([place])))
        assert torch.equal(elsewhere, residuals(Strength()))


def test_curves_of_all_sites_are_the_curve_of_the_whole_bit_for_bit():
    step = StepAt(3, 7)
    for part in ("curve", "keys", "queries"):
        whole = forward(Strength(**{part: LATE}), step=step)
        apart = LATE.within(["up"]) * LATE.within(["down", "mid"])
        assert torch.equal(forward(Strength(**{part: apart}), step=step), whole)
        some = forward(Strength(**{part: LATE.within(["up"])}), step=step)
        assert not torch.allclose(some, whole, atol=1e-4)
        assert not torch.allclose(some, forward(Strength(), step=step), atol=1e-4)


def test_sites_curves_and_masks_multiply():
    mask = torch.zeros(1, 8, 8)
    mask[..., 4:] = 1
    frames = per_frame([0.0, 1.0, 2.0, 3.0])
    curve = Curve(masks=(mask,)).within(["down"]) * frames.within([SITE]) * LATE.within(["mid"])
    found, whole = residuals(Strength(overall=0.5, curve=curve)), residuals(Strength())
    assert not found[..., :4].any()
    for k in range(FRAMES):
        torch.testing.assert_close(
            found[:, k, ..., 4:], 0.5 * k * whole[:, k, ..., 4:], atol=1e-5, rtol=1e-5
        )


def test_keys_of_one_site_are_scaled_as_its_number_says():
    number = residuals(Strength(sites={f"{SITE}.keys": 0.4}))
    curve = residuals(Strength(keys=Curve(0.4).within([SITE])))
    assert torch.equal(curve, number)
    assert not torch.allclose(curve, residuals(Strength()), atol=1e-4)
    assert torch.equal(residuals(Strength(keys=Curve(0.4).within(["mid"]))), residuals(Strength()))


def test_where_the_curves_of_all_sites_are_0_the_image_model_is_left():
    apart = OFF_LATE.within(["down", "mid"]) * OFF_LATE.within(["up"])
    assert torch.equal(forward(Strength(curve=apart), step=LAST_STEP), forward())
    assert torch.equal(forward(Strength(curve=Curve(0.0).within(["down", "up"]))), forward())
    some = forward(Strength(curve=OFF_LATE.within(["up"])), step=LAST_STEP)
    assert not torch.allclose(some, forward(), atol=1e-2)


def test_sites_are_matched_by_whole_names():
    strength = Strength(curve=Curve(2.0).within(["up.1"]), sites={"mid.keys": 0.5})
    assert strength.residual_at("up.1.attn.0").constant == 2.0
    assert strength.residual_at("up.10.attn.0").constant == 1.0
    assert strength.places_without(["up.1.attn.0"]) == ["mid"]
    assert strength.places_without(["up.10.attn.0", "mid.attn.0"]) == ["up.1"]
    assert Strength(curve=LATE.within(["mid"])).reads_steps
    with pytest.raises(ValueError, match=r"is for up\.1, but no place was named"):
        strength.curve.amount([0])


# --------------------------------------------------------------------------------------------------
# Keys and queries, for every kind of temporal attention.

KINDS = {
    "motion module": MotionModuleSpec(heads=4, norm_groups=8),
    "temporal transformer": TemporalTransformerSpec(heads=4, norm_groups=8),
    "space-time transformer": SpaceTimeTransformerSpec(heads=2, norm_groups=8),
    "attention in block": BlockAttentionSpec(heads=4, learned_blend=True),
    "video block": VideoBlockSpec(heads=4),
    "frame transformer": FrameTransformerSpec(heads=4, head_width=8, norm_groups=8),
}
WIDTH = 32


def layer_of(kind):
    torch.manual_seed(0)
    return fill(KINDS[kind].build(WIDTH), seed=3).eval().requires_grad_(False)


def run(layer, kind, scales=None):
    h = normal(2 * FRAMES, WIDTH, 4, 4, seed=8)
    h = h if KINDS[kind].place is None else h.flatten(2).transpose(1, 2)
    inputs = LayerInputs()
    return layer(h, FRAMES, inputs if scales is None else replace(inputs, scales=scales))


def with_scaled_weights(layer, name, factor):
    """The layer, its query ("q") or key ("k") projection multiplied in place."""
    for path, parameter in layer.named_parameters():
        if path.endswith((f"to_{name}.weight", f"to_{name}.base.weight")):
            parameter.data *= factor
        if path.endswith("to_qkv.weight"):
            parameter.data[{"q": slice(0, WIDTH), "k": slice(WIDTH, 2 * WIDTH)}[name]] *= factor
    return layer


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["q", "k"])
def test_scaled_keys_and_queries_are_scaled_projections(kind, name):
    assert KINDS[kind].scales_attention
    expected = run(with_scaled_weights(layer_of(kind), name, 1.7), kind)
    number = Scales(**{"q": dict(queries=1.7), "k": dict(keys=1.7)}[name])
    spread = torch.full((2 * FRAMES, 16, 1), 1.7)
    tensor = Scales(*(spread if one == 1.7 else one for one in number))
    for scales in (number, tensor, Scales(*(x[:, :1] if x is spread else x for x in tensor))):
        torch.testing.assert_close(
            run(layer_of(kind), kind, scales), expected, atol=1e-5, rtol=1e-5
        )
    assert not torch.allclose(run(layer_of(kind), kind), expected, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_whose_key_grows_is_seen_by_the_others_otherwise(kind):
    layer, keys = layer_of(kind), torch.ones(2 * FRAMES, 1, 1)
    keys[2] = 4.0  # the third frame of the first video
    plain, found = run(layer, kind), run(layer, kind, Scales(keys=keys))
    change = (found - plain).flatten(1).abs().amax(1).unflatten(0, (2, FRAMES))
    assert (change[0] > 1e-6).all()
    assert change[1].max() < 1e-6


def test_queries_of_a_frame_concern_that_frame_alone():
    layer, queries = layer_of("attention in block"), torch.ones(2 * FRAMES, 1, 1)
    queries[2] = 4.0
    change = run(layer, "attention in block", Scales(queries=queries))
    change = (change - run(layer, "attention in block")).flatten(1).abs().amax(1)
    assert change[2] > 1e-5
    assert change[[0, 1, 3, 4, 5, 6, 7]].max() < 1e-6


def test_scales_go_by_the_frames_of_a_view():
    keys = torch.arange(1.0, 7.0)[:, None, None]
    layer = layer_of("motion module")
    h = normal(6, WIDTH, 4, 4, seed=9)
    views = Views(((0, 1, 2), (3, 4, 5)), ((1.0,) * 3,) * 2)
    found = layer(h, 6, LayerInputs(views=views, scales=Scales(keys=keys)))
    parts = [
        layer(h[k : k + 3], 3, LayerInputs(scales=Scales(keys=keys[k : k + 3]))) for k in (0, 3)
    ]
    torch.testing.assert_close(found, torch.cat(parts), atol=1e-5, rtol=1e-5)
