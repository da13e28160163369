"""What inputs for curves accept and refuse, in the standalone host."""

from __future__ import annotations

import pytest
import torch
from videoldm.core.diffusion.curves import Curve, StepAt
from videoldm.core.networks.temporal_layers import Strength
from videoldm.nodes.host.shared.misfits import check_strength_fits
from videoldm.nodes.host.standalone.host import host
from videoldm.nodes.stages.curves import control_strength, curve_of, drawn_curve, unmasked
from videoldm.nodes.stages.texts import read_sites


def test_numbers_lists_masks_and_curves_are_curves():
    assert curve_of(host, None).constant == 1.0
    assert curve_of(host, 0.3).constant == 0.3
    assert curve_of(host, 2).constant == 2.0
    assert [curve_of(host, [0.1, 0.9]).at(frame) for frame in range(3)] == [0.1, 0.9, 0.9]
    mask = curve_of(host, torch.full((8, 8), 0.5))
    assert torch.allclose(mask.amount([0, 7], size=(2, 2)), torch.full((2, 2, 2), 0.5))
    drawn = drawn_curve(host, "[[0, 1], [4, 0]]", "frames", "linear", None)
    assert curve_of(host, drawn) is drawn


def test_curves_multiply_over_frames_steps_and_masks():
    frames = drawn_curve(host, "[[0, 1], [4, 3]]", "frames", "linear", torch.full((1, 4, 4), 0.5))
    both = drawn_curve(host, "[[0, 1], [1, 0.5]]", "steps", "hold", frames)
    amount = both.amount([0, 2], StepAt(9, 10), (4, 4))
    assert torch.equal(amount[:, 0, 0], torch.tensor([0.25, 0.5]))


@pytest.mark.parametrize("value", ["0.5", True, [], [0.1, "a"], {"points": []}, torch.zeros(2)])
def test_other_values_are_refused(value):
    with pytest.raises(ValueError, match=r"was expected, got|has the shape \[n, h, w\]"):
        curve_of(host, value)


@pytest.mark.parametrize(
    ("points", "over", "words"),
    [
        ("[[0, 1], [2, 1]]", "steps", "point 2 lies at 2, but over steps"),
        ("[[0, 1], [0, 2], [0, 3]]", "frames", "more than 2 points stand at 0"),
        ("[[0]]", "frames", "point 1 must be a pair"),
        ('[[0, "a"]]', "frames", "point 1 must be a number"),
        ("[]", "frames", "at least 1 entry"),
        ("nonsense", "frames", "must be a JSON list"),
    ],
)
def test_points_that_mean_nothing_are_refused(points, over, words):
    with pytest.raises(ValueError, match=words):
        drawn_curve(host, points, over, "linear", None)


def test_points_may_come_in_any_order():
    drawn = drawn_curve(host, "[[4, 0], [0, 1]]", "frames", "linear", None)
    assert drawn.at(0) == 1.0
    assert drawn.at(2) == 0.5


def test_a_mask_is_not_for_what_has_no_positions():
    with pytest.raises(ValueError, match="a LoRA acts on whole frames, but its curve has 1 mask:"):
        unmasked(host, torch.ones(1, 4, 4), "a LoRA")


def test_prompts_without_a_controlnet_are_refused():
    with pytest.raises(ValueError, match="none of the prompts has a ControlNet"):
        control_strength(host, [[None, {}]], [[None, {}]], 0.5)


def test_a_curve_may_be_for_some_sites_alone():
    mask = torch.full((1, 4, 4), 0.5)
    up = drawn_curve(host, "[[0, 3]]", "frames", "linear", mask, "up.1, up.2.attn.0")
    both = drawn_curve(host, "[[0, 2]]", "steps", "linear", up, "mid")
    assert both.places == ("mid", "up.1", "up.2.attn.0")
    assert both.at_place("mid.attn.0").constant == 2.0
    assert both.at_place("down.0.attn.0").constant == 1.0
    at_up = both.at_place("up.1.attn.0").amount([0], size=(2, 2))
    assert torch.equal(at_up, torch.full((1, 2, 2), 1.5))


@pytest.mark.parametrize(
    ("sites", "words"),
    [
        ("nowhere", "'nowhere' is not a site"),
        ("mid.keys", "connect the curve to the input keys or queries"),
        ("mid=1", "'mid=1' is not a site"),
    ],
)
def test_sites_of_curves_that_mean_nothing_are_refused(sites, words):
    with pytest.raises(ValueError, match=words):
        drawn_curve(host, "[[0, 1]]", "frames", "linear", None, sites)


def test_curves_of_sites_are_for_layers_alone():
    curve = drawn_curve(host, "[[0, 1]]", "frames", "linear", None, "mid")
    prompt = [[None, {"control": object()}]]
    with pytest.raises(ValueError, match="a ControlNet has no sites, but its curve is for mid"):
        control_strength(host, prompt, prompt, curve)
    with pytest.raises(ValueError, match="a LoRA has no sites"):
        unmasked(host, curve, "a LoRA")


def test_sites_without_a_layer_are_refused():
    from animatediff_toys import toy_config

    spec = toy_config("v1").layers_spec()
    for strength in (Strength(sites={"mid": 0.5}), Strength(keys=Curve(2.0).within(["mid"]))):
        with pytest.raises(ValueError, match="for the site mid, where 0 of the"):
            check_strength_fits(strength, spec)
    check_strength_fits(Strength(sites={"up.keys": 0.5}), spec)


def test_sites_may_name_keys_and_queries():
    assert read_sites("mid.keys=0.5, up.1.queries = 2, down.0.attn.1.keys=1") == {
        "mid.keys": 0.5, "up.1.queries": 2.0, "down.0.attn.1.keys": 1.0}  # fmt: skip
    with pytest.raises(ValueError, match="nowhere"):
        read_sites("nowhere.keys=0.5")


def test_a_curve_of_zeros_is_off():
    assert drawn_curve(host, "[[0, 0], [9, 0]]", "frames", "smooth", None).constant == 0.0
    assert Curve(1.0).constant == 1.0
