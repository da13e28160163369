"""The factorised U-Net, whose layers act on space or on time: its conditions and layers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from factorised_toys import CONFIGS, config, network
from model_toys import normal
from videoldm.core.networks.conditions import Conditions
from videoldm.core.networks.context_frames import CLEAN, given_frames, no_context
from videoldm.core.networks.factorised_unet import FRAMES_PER_SECOND, FactorisedUNet
from videoldm.core.networks.layers.group_norms import FrameGroupNorm
from videoldm.core.networks.layers.relative_attention import (
    RelativePositions,
    TransposedRelativeAttention,
)

T = torch.tensor([500, 20])
ROUNDING = dict(atol=1e-4, rtol=1e-4)


def given(name, **more):
    spec = CONFIGS[name].attention
    text = None if spec.text is None else normal(2, 7, spec.text)
    image = None if spec.image is None else normal(2, 5, spec.image)
    return Conditions(text=text, image=image, **more)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("frames, height, width", [(1, 4, 4), (6, 5, 7)])
def test_any_number_of_frames_and_any_size(name, frames, height, width):
    x = normal(2, frames, 4, height, width)
    out = network(name)(x, T, given(name))
    assert out.shape == x.shape and torch.isfinite(out).all() and out.std() > 0.01


@pytest.mark.parametrize("name", CONFIGS)
def test_videos_of_a_batch_do_not_see_each_other(name):
    module, x = network(name), normal(2, 3, 4, 4, 4)
    told = given(name)
    both = module(x, T, told)
    second = Conditions(
        text=None if told.text is None else told.text[1:],
        image=None if told.image is None else told.image[1:],
    )
    torch.testing.assert_close(module(x[1:], T[1:], second)[0], both[1], **ROUNDING)


@pytest.mark.parametrize("name", CONFIGS)
def test_frames_see_each_other(name):
    module, x = network(name), normal(2, 3, 4, 4, 4)
    changed = x.clone()
    changed[:, 2] += 1
    moved = (module(changed, T, given(name)) - module(x, T, given(name))).abs()
    assert (moved[:, 0] > 1e-5).any()


@pytest.mark.parametrize("name", CONFIGS)
def test_timesteps_per_frame(name):
    module, x = network(name), normal(2, 3, 4, 4, 4)
    same = module(x, T[:, None].expand(2, 3), given(name))
    torch.testing.assert_close(same, module(x, T, given(name)), **ROUNDING)
    one, two = (module(x, torch.tensor(t), given(name)) for t in (7, [7, 7]))
    torch.testing.assert_close(one, two, **ROUNDING)


@pytest.mark.parametrize("name", CONFIGS)
def test_half_precision(name):
    x = normal(2, 3, 4, 4, 4)
    told = replace(given(name), context=context(100).context if "given" in name else None)
    expected = network(name)(x, T, told)
    small = network(name).bfloat16()
    out = small(x.bfloat16(), T, told.to("cpu", torch.bfloat16))
    assert out.dtype == torch.bfloat16
    assert (out - expected).square().mean() < 0.01 * expected.square().mean()


def test_what_each_network_takes():
    takes = {name: FactorisedUNet(c).spec.takes for name, c in CONFIGS.items()}
    assert takes == {
        "unconditional": (),
        "given frames": ("context",),
        "given frames, per frame": ("context",),
        "text": ("text",),
        "heads of one width, kernels over time": (),
        "videocrafter 1": ("text",),
        "videocrafter image": ("text", "image", FRAMES_PER_SECOND),
    }
    with pytest.raises(ValueError, match="factorised U-Net takes text, but was also given image"):
        network("text").spec.check(given("videocrafter image"))


def test_text_per_frame():
    module, x = network("text"), normal(2, 3, 4, 4, 4)
    told = given("text").text
    each = Conditions(text=told[:, None].expand(-1, 3, -1, -1))
    torch.testing.assert_close(module(x, T, each), module(x, T, given("text")), **ROUNDING)
    with pytest.raises(ValueError, match="attends to text, but none was given"):
        module(x, T, Conditions())


def test_an_image_is_attended_to_besides_the_text():
    name = "videocrafter image"
    module, x, told = network(name), normal(2, 3, 4, 4, 4), given(name)
    without = module(x, T, Conditions(text=told.text))
    assert not torch.allclose(module(x, T, told), without, atol=1e-3)
    each = Conditions(text=told.text, image=told.image[:, None].expand(-1, 3, -1, -1))
    with pytest.raises(ValueError, match="must both be per video or both be per frame"):
        module(x, T, each)


def test_frames_per_second_are_16_unless_another_number_is_told():
    name = "videocrafter image"
    module, x = network(name), normal(2, 3, 4, 4, 4)
    usual = module(x, T, given(name))
    for rate, same in ((torch.tensor([16]), True), (torch.tensor([8, 8]), False)):
        told = module(x, T, given(name, ids={FRAMES_PER_SECOND: rate}))
        assert torch.allclose(told, usual, atol=1e-5) == same


# ------------------------------------------------------------------------------------ given frames


def context(level, frames=3):
    known = given_frames(normal(2, 1, 4, 4, 4, seed=3), [0], frames)
    known.noise_level[:] = level
    return Conditions(context=known)


@pytest.mark.parametrize("name", ["given frames", "given frames, per frame"])
def test_given_frames_stand_in_the_place_of_noisy_ones(name):
    module, x = network(name), normal(2, 3, 4, 4, 4)
    other = x.clone()
    other[:, 0] = 7
    told = context(100)
    assert torch.equal(module(x, T, told), module(other, T, told))
    assert not torch.allclose(module(x, T, told), module(x, T, Conditions()), atol=1e-3)
    nothing = Conditions(context=no_context(x.shape))
    torch.testing.assert_close(module(x, T, nothing), module(x, T, Conditions()))


def test_the_level_of_given_frames_is_told_unless_they_are_clean():
    module, x = network("given frames"), normal(2, 3, 4, 4, 4)
    clean, some, more = (module(x, T, context(level)) for level in (CLEAN, 100, 249))
    assert not torch.allclose(some, more, atol=1e-3)
    assert not torch.allclose(clean, some, atol=1e-3)
    least = module(x, T, context(0))
    module.embed_level.weight[0] += 5  # Clean frames use no row; row 0 is level 0.
    assert torch.equal(module(x, T, context(CLEAN)), clean)
    assert not torch.allclose(module(x, T, context(0)), least, atol=1e-3)
    with pytest.raises(ValueError, match="noised to step 251, but the network knows steps 0 to"):
        module(x, T, context(251))


def test_the_level_may_take_the_place_of_the_given_frames_own():
    module, x = network("given frames, per frame"), normal(2, 3, 4, 4, 4)
    told = module(x, T, context(100))
    own = torch.tensor([[999, 500, 500], [3, 20, 20]])
    torch.testing.assert_close(module(x, own, context(100)), told, **ROUNDING)
    assert not torch.allclose(module(x, T, context(0)), told, atol=1e-3)


# ---------------------------------------------------------------------------------------- layers


def test_an_untrained_network_predicts_zero():
    x = normal(1, 2, 4, 4, 4)
    out = FactorisedUNet(CONFIGS["unconditional"])(x, torch.tensor(3), Conditions())
    assert torch.equal(out, torch.zeros_like(x))


def test_relative_vectors_are_clipped():
    positions = RelativePositions(2, 4)
    rows = positions.keys.table.weight
    found = positions.keys(5, rows.device)
    assert torch.equal(found[0, 4], rows[4]) and torch.equal(found[0, 1], rows[3])
    assert torch.equal(found[4, 0], rows[0]) and torch.equal(found[2, 2], rows[2])


def test_the_transposed_logits_are_those_of_the_key_frame():
    """The positional logit of query i and key j is q_j . K_ji, checked element by element."""
    layer = TransposedRelativeAttention(8, 2, 2)
    torch.nn.init.zeros_(layer.to_qkv.bias)
    tokens = normal(1, 3, 8)
    q, k, v = layer.to_qkv(tokens)[0].chunk(3, dim=-1)
    rows, values = layer.positions.keys.table.weight, layer.positions.values.table.weight
    out = torch.zeros(3, 8)
    for head in range(2):
        part = slice(4 * head, 4 * head + 4)
        for i in range(3):
            logits = torch.stack(
                [
                    q[i, part] @ k[j, part] / 2
                    + q[j, part] @ rows[max(-2, min(2, i - j)) + 2] / 2**0.5
                    for j in range(3)
                ]
            )
            weights = logits.softmax(0)
            out[i, part] = sum(
                weights[j] * (v[j, part] + values[max(-2, min(2, j - i)) + 2]) for j in range(3)
            )
    torch.testing.assert_close(layer(tokens)[0], layer.to_out(out))


@pytest.mark.parametrize("pooled", [False, True])
def test_the_norm_keeps_its_digits_where_the_mean_is_far_from_0(pooled):
    norm = FrameGroupNorm(32, 64, eps=1e-5, pooled=pooled)
    h = (3 + 3e-3 * normal(4, 64, 5, 6)).contiguous(memory_format=torch.channels_last)
    clip = h.double().unflatten(0, (2, 2)).transpose(1, 2) if pooled else h.double()
    expected = torch.nn.functional.group_norm(clip, 32, eps=1e-5)
    expected = expected.transpose(1, 2).flatten(0, 1) if pooled else expected
    torch.testing.assert_close(norm(h, 2).double(), expected, atol=2e-4, rtol=1e-3)


def test_levels_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="3 levels of channels but 2 of attention"):
        config(channels=(32, 64, 64))
    with pytest.raises(ValueError, match="only networks of stacked transformers"):
        config(first_attention=True)
