from dataclasses import replace

import pytest
import torch
from model_toys import fill, normal, toy_unet
from videoldm.core.families.embedded.specs import spec_from_table
from videoldm.core.kernels import parts
from videoldm.core.networks import layer_calls
from videoldm.core.networks.conditions import NOISE_LEVEL, Conditions
from videoldm.core.networks.opened_modules import first_and_previous
from videoldm.core.networks.sites import (
    SD1,
    SDXL,
    X4_UPSCALER,
    UNetLayout,
    attn_sites,
    bare_attn_sites,
    block_sites,
    forward_steps,
    layout_of,
    res_sites,
)
from videoldm.core.networks.temporal_layers import Strength, TemporalLayers
from videoldm.core.networks.video_unet import VideoUNet, combine, eject, inject

STEPS = torch.tensor([700.0, 20.0])
TEXT = normal(2, 5, 16, seed=9)
GIVEN = Conditions(text=TEXT)
UPSCALER = dict(in_channels=7, num_class_embeds=10, use_linear_projection=True,
                only_cross_attention=(True, False))  # fmt: skip


def block_layers(unet, **changes):
    layout = layout_of(unet.config)
    sites = changes.pop("sites", tuple(block_sites(layout)))
    values = dict(sites=sites, learned_blend=False, norm_groups=8)
    return TemporalLayers(spec_from_table(layout, **values | changes)).eval()


def per_frame(unet, x, text=TEXT, **more):
    return torch.stack([unet(frame, STEPS, text, **more).sample for frame in x.unbind(1)], dim=1)


@pytest.fixture(scope="module")
def unet():
    return toy_unet()


@pytest.mark.parametrize("changes", [{}, UPSCALER], ids=["base", "upscaler"])
@pytest.mark.parametrize("height, width", [(8, 8), (7, 5), (3, 9)])
def test_untrained_layers_in_blocks_leave_the_image_network_frame_by_frame(changes, height, width):
    unet = toy_unet(**changes)
    x, given = normal(2, 3, unet.config.in_channels, height, width), GIVEN
    more = {"class_labels": torch.tensor([3, 7])} if changes else {}
    if changes:
        ids = {NOISE_LEVEL: more["class_labels"]}
        given = replace(GIVEN, concatenated=x[:, :, 4:], ids=ids)
    out = inject(unet, block_layers(unet))(x[:, :, :4], STEPS, given)
    torch.testing.assert_close(out, per_frame(unet, x, **more), atol=3e-5, rtol=1e-4)
    assert out.is_contiguous()


def test_outputs_are_the_same_with_and_without_gradients(unet):
    video = inject(unet, fill(block_layers(unet, pooled_host_norms=True)))
    x = normal(2, 3, 4, 8, 8)
    with torch.no_grad():
        fast = video(x, STEPS, GIVEN)
    slow = video(x.requires_grad_(), STEPS, GIVEN)
    torch.testing.assert_close(fast, slow.detach(), atol=1e-5, rtol=1e-4)
    slow.square().sum().backward()
    assert torch.isfinite(x.grad).all()
    assert all(p.grad is not None for p in video.sets.parameters())


@pytest.mark.parametrize("gradients", [False, True])
def test_memory_is_channels_last_unless_gradients_are_recorded(unet, gradients):
    """torch 2.13 crashes in the backward pass of channels-last group norms with frozen weights."""
    video, orders = inject(unet, block_layers(unet)), []
    watched = [
        module.register_forward_pre_hook(
            lambda _, given: orders.append(
                given[0].is_contiguous(memory_format=torch.channels_last)
            )
        )
        for module in unet.modules()
        if isinstance(module, torch.nn.GroupNorm)
    ]
    with torch.set_grad_enabled(gradients):
        video(normal(2, 3, 4, 8, 8), STEPS, GIVEN)
    for handle in watched:
        handle.remove()
    assert len(orders) > 10
    assert set(orders) == {not gradients}


def test_pooled_norms_make_frames_depend_on_each_other(unet):
    x = normal(2, 3, 4, 8, 8)
    other = x.clone()
    other[0, 2] += 5
    for pooled in (False, True):
        video = inject(unet, block_layers(unet, pooled_host_norms=pooled))
        moved = (video(other, STEPS, GIVEN) - video(x, STEPS, GIVEN)).abs().amax((2, 3, 4)) > 1e-5
        assert moved.tolist() == [[pooled, pooled, True], [False] * 3]


def test_pooled_norms_of_one_frame_are_the_image_network(unet):
    x = normal(2, 1, 4, 8, 8)
    out = inject(unet, block_layers(unet, pooled_host_norms=True))(x, STEPS, GIVEN)
    torch.testing.assert_close(out, per_frame(unet, x), atol=3e-5, rtol=1e-4)


def test_sparse_causal_attention_sees_the_first_and_the_previous_frame(unet):
    video, x = inject(unet, block_layers(unet, sparse_causal=True)), normal(2, 5, 4, 8, 8)
    out = video(x, STEPS, GIVEN)
    for changed, reached in ((0, range(5)), (1, range(1, 5)), (4, [4])):
        other = x.clone()
        other[0, changed] += 1
        moved = (video(other, STEPS, GIVEN) - out).abs().amax((2, 3, 4)) > 1e-6
        assert moved[0].nonzero().flatten().tolist() == list(reached) and not moved[1].any()


def test_the_first_frame_is_repeated_where_there_is_none_before():
    frames = torch.arange(8.0).reshape(8, 1, 1)
    seen = first_and_previous(frames, 4).squeeze(-1).tolist()
    assert seen == [[0, 0], [0, 0], [0, 1], [0, 2], [4, 4], [4, 4], [4, 5], [4, 6]]


def test_the_place_in_the_block_matters(unet):
    x, outs = normal(2, 3, 4, 8, 8), []
    for place in ("before_feed_forward", "after_feed_forward"):
        outs.append(inject(unet, fill(block_layers(unet, block_place=place)))(x, STEPS, GIVEN))
    assert not torch.allclose(*outs, atol=1e-3)


def test_text_per_frame(unet):
    video, x = inject(unet, fill(block_layers(unet))), normal(2, 3, 4, 8, 8)
    texts = TEXT[:, None].repeat(1, 3, 1, 1)
    same, out = video(x, STEPS, Conditions(text=texts)), video(x, STEPS, GIVEN)
    torch.testing.assert_close(same, out, atol=3e-5, rtol=1e-4)
    texts[0, 1] += 1
    assert not torch.allclose(video(x, STEPS, Conditions(text=texts)), out, atol=1e-3)


@pytest.mark.parametrize("off", [Strength(overall=0.0), Strength(kinds={"attention": 0.0})])
def test_switched_off_it_is_the_image_network_to_the_bit(unet, off):
    changes = dict(pooled_host_norms=True, sparse_causal=True)
    layers, x = fill(block_layers(unet, **changes)), normal(2, 3, 4, 8, 8)
    video = inject(unet, layers, off)
    assert torch.equal(video(x, STEPS, GIVEN), VideoUNet(unet, [])(x, STEPS, GIVEN))
    assert eject(video) is unet


def test_modules_between_levels_and_further_sets_act_too(unet):
    layers = block_layers(unet, sites=("down.0.out", "mid.out", "up.1.out"), modules=True,
                          pooled_host_norms=True)  # fmt: skip
    x = normal(2, 3, 4, 8, 8)
    first = inject(unet, block_layers(unet, pooled_host_norms=True))
    both = combine(first, fill(layers))
    assert not torch.allclose(both(x, STEPS, GIVEN), first(x, STEPS, GIVEN), atol=1e-3)


def test_more_frames_than_the_samplers_of_diffusers_take_without_a_copy(unet):
    x = normal(1, 70, 4, 5, 5)
    out = inject(unet, block_layers(unet))(x, STEPS[:1], Conditions(text=TEXT[:1]))
    expected = VideoUNet(unet, [])(x, STEPS[:1], Conditions(text=TEXT[:1]))
    torch.testing.assert_close(out, expected, atol=3e-5, rtol=1e-4)


def test_text_must_be_given(unet):
    with pytest.raises(ValueError, match="text"):
        inject(unet, block_layers(unet))(normal(2, 1, 4, 8, 8), STEPS, Conditions())


@pytest.mark.parametrize("changes", [{}, UPSCALER], ids=["base", "upscaler"])
@pytest.mark.parametrize("rows", [0, 512])
def test_without_the_faster_forms_the_answers_are_the_same_but_for_rounding(
    changes, rows, monkeypatch
):
    monkeypatch.setattr(parts, "ROWS", rows)
    unet = toy_unet(**changes)
    sites = (*block_sites(layout_of(unet.config)), "mid.out")
    layers = fill(block_layers(unet, sites=sites, modules=True, pooled_host_norms=True))
    channels = unet.config.in_channels - 4
    given = replace(
        GIVEN,
        concatenated=normal(2, 3, channels, 7, 5) if channels else None,
        ids={NOISE_LEVEL: torch.tensor([3, 7])} if channels else {},
    )
    x = normal(2, 3, 4, 7, 5)
    with torch.no_grad():
        usual = inject(unet, layers)(x, STEPS, given)
        monkeypatch.setattr(layer_calls, "FASTER", None)
        plain = inject(unet, layers)(x, STEPS, given)
    torch.testing.assert_close(plain, usual, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "layout",
    [UNetLayout(channels=(32, 64), layers=1, depths=(1, 0)), SD1, SDXL, X4_UPSCALER],
)
def test_the_forward_pass_is_described_once(layout):
    steps = forward_steps(layout)
    sites = [step.site for step in steps]
    assert len(set(sites)) == len(sites) and set(res_sites(layout)) < set(sites)
    attended = {step.site for step in steps if step.module == "attn"}
    assert attended == set(attn_sites(layout)) and not attended & set(bare_attn_sites(layout))
    for a, b in (
        ("in", "down.0.res.0"),
        ("down.0.attn.0", "down.0.out"),
        ("mid.out", "up.0.res.0"),
    ):
        assert sites.index(a) < sites.index(b)
    # Every skip connection is left before it is taken, and none remains.
    open_skips = 0
    for step in steps:
        open_skips -= step.takes_skip
        assert open_skips >= 0
        open_skips += step.leaves_skip
    assert open_skips == 0


def test_layers_act_in_the_order_that_the_description_says():
    unet = toy_unet()
    layout, visited = layout_of(unet.config), []
    sites = tuple(step.site for step in forward_steps(layout))
    layers = block_layers(unet, sites=sites, learned_blend=True)
    for site in sites:
        layers.at(site).register_forward_hook(lambda *_, site=site: visited.append(site))
    inject(unet, layers)(normal(1, 2, 4, 8, 8), STEPS[:1], Conditions(text=TEXT[:1]))
    assert visited == list(sites)
