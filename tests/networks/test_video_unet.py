import itertools
from dataclasses import replace

import pytest
import torch
from model_toys import fill, normal, toy_layers, toy_unet
from videoldm.core.families.embedded.specs import spec_from_table
from videoldm.core.networks.conditions import (
    FRAME_RATE,
    NOISE_LEVEL,
    SIZES,
    Conditions,
    first_frame_text,
)
from videoldm.core.networks.context_frames import ContextFrames, given_frames
from videoldm.core.networks.injected_sets import LayerPass
from videoldm.core.networks.layers.positions import POSITIONS
from videoldm.core.networks.sites import SD1, all_sites, layout_of
from videoldm.core.networks.temporal_layers import Strength, TemporalLayers
from videoldm.core.networks.video_unet import Injection, VideoUNet, combine, eject, inject

STEPS = torch.tensor([700.0, 20.0])
TEXT = normal(2, 5, 16, seed=9)
GIVEN, FIRST = Conditions(text=TEXT), Conditions(text=TEXT[:1])

UNETS = {
    "small": {},
    "three levels": dict(
        block_out_channels=(32, 32, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=2,
        transformer_layers_per_block=(1, 1, 2),
        use_linear_projection=True,
    ),
}


def per_frame(unet, x, steps=STEPS, text=TEXT, **more):
    """The image U-Net on every frame, one frame at a time."""
    outs = [unet(frame, steps, text, **more).sample for frame in x.unbind(1)]
    return torch.stack(outs, dim=1)


@pytest.fixture(scope="module")
def unet():
    return toy_unet()


@pytest.mark.parametrize("name", UNETS)
def test_without_layers_it_is_the_image_network_frame_by_frame(name):
    unet, x = toy_unet(**UNETS[name]), normal(2, 3, 4, 8, 8)
    out = VideoUNet(unet, [])(x, STEPS, GIVEN)
    torch.testing.assert_close(out, per_frame(unet, x), atol=2e-5, rtol=1e-4)
    # One frame per video: the very same operations on the very same shapes.
    still = inject(unet, toy_layers(unet))(x[:, :1], STEPS, GIVEN)
    assert torch.equal(still[:, 0], unet(x[:, 0], STEPS, TEXT).sample)


@pytest.mark.parametrize("name", UNETS)
@pytest.mark.parametrize("positions", POSITIONS)
def test_injecting_untrained_layers_changes_not_one_bit(name, positions):
    unet, x = toy_unet(**UNETS[name]), normal(2, 3, 4, 8, 8)
    layers = toy_layers(unet, positions=positions, context_channels=4, rates=2, text_width=16)
    context = given_frames(normal(2, 1, 4, 8, 8), [0], 3)
    ids = {FRAME_RATE: torch.tensor([0, 1])}
    given = Conditions(text=TEXT, context=context, ids=ids)
    out = inject(unet, layers)(x, STEPS, given)
    assert torch.equal(out, VideoUNet(unet, [])(x, STEPS, GIVEN))


@pytest.mark.parametrize("frames", range(1, 34))
def test_any_number_of_frames(unet, frames):
    video = inject(unet, fill(toy_layers(unet, positions=POSITIONS[frames % 4], max_distance=8)))
    x = normal(1, frames, 4, 4, 4)
    out = video(x, STEPS[:1], FIRST)
    assert out.shape == x.shape and torch.isfinite(out).all()


@pytest.mark.parametrize("height, width", [(8, 8), (7, 5), (9, 6), (3, 11), (5, 5)])
def test_sizes_that_do_not_halve_evenly(height, width):
    unet = toy_unet(**UNETS["three levels"])
    layers = toy_layers(unet, context_channels=4)
    x = normal(2, 3, 4, height, width)
    out = inject(unet, layers)(x, STEPS, GIVEN)
    assert out.shape == x.shape
    torch.testing.assert_close(out, per_frame(unet, x), atol=2e-5, rtol=1e-4)
    context = given_frames(normal(2, 1, 4, height, width), [0], 3)
    trained = inject(unet, fill(layers))(x, STEPS, Conditions(text=TEXT, context=context))
    assert trained.shape == x.shape


def test_ejecting_gives_back_the_very_network_bit_for_bit(unet):
    before = {k: v.clone() for k, v in unet.state_dict().items()}
    video = combine(inject(unet, fill(toy_layers(unet))), fill(toy_layers(unet), seed=1))
    video(normal(1, 3, 4, 8, 8), STEPS[:1], FIRST)
    assert eject(video) is unet
    assert unet.state_dict().keys() == before.keys()
    assert all(torch.equal(v, before[k]) for k, v in unet.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in unet.modules())


def test_one_training_step_moves_temporal_weights_and_no_spatial_one():
    unet = toy_unet()
    video = inject(unet, toy_layers(unet))
    before = {k: v.clone() for k, v in video.state_dict().items()}
    trained = [p for p in video.parameters() if p.requires_grad]
    assert {id(p) for p in trained} == {id(p) for p in video.sets.parameters()}
    optimizer = torch.optim.SGD(trained, lr=1.0)
    video(normal(1, 4, 4, 8, 8), STEPS[:1], FIRST).square().mean().backward()
    optimizer.step()
    moved = {k for k, v in video.state_dict().items() if not torch.equal(v, before[k])}
    assert moved and all(k.startswith("sets.") for k in moved)
    last = {k for k in before if k.endswith(("conv2.weight", "project_out.weight"))}
    assert {k for k in last if k.startswith("sets.")} <= moved


@pytest.fixture(scope="module")
def changes(unet):
    """A function from a strength to the output's difference from the image model's."""
    video = inject(unet, fill(toy_layers(unet)))
    x = normal(1, 4, 4, 8, 8)
    plain = VideoUNet(unet, [])(x, STEPS[:1], FIRST)

    def change(strength: Strength):
        injected = VideoUNet(unet, [Injection(video.sets[0], strength)])
        return injected(x, STEPS[:1], FIRST) - plain

    return change


def test_strength_acts_on_everything_on_a_kind_and_on_a_site(unet, changes):
    full = changes(Strength())
    assert full.abs().max() > 0
    assert (changes(Strength(overall=0.0)) == 0).all()
    off = {"attention": 0.0, "convolution": 0.0}
    assert (changes(Strength(kinds=off)) == 0).all()
    attention = changes(Strength(kinds={"convolution": 0.0}))
    convolution = changes(Strength(kinds={"attention": 0.0}))
    assert 0 < attention.abs().max() and 0 < convolution.abs().max()
    assert not torch.allclose(attention, convolution)
    for site in toy_layers(unet).spec.sites:
        assert not torch.equal(changes(Strength(sites={site: 0.0})), full), site
    small = changes(Strength(overall=1e-3))
    assert small.abs().max() < 0.05 * full.abs().max()


def test_sets_act_one_after_the_other(unet):
    first, second = fill(toy_layers(unet)), fill(toy_layers(unet), seed=1)
    x = normal(1, 3, 4, 8, 8)
    ab = combine(inject(unet, first), second)(x, STEPS[:1], FIRST)
    ba = combine(inject(unet, second), first)(x, STEPS[:1], FIRST)
    assert not torch.allclose(ab, ba)
    untrained = combine(inject(unet, first), toy_layers(unet))(x, STEPS[:1], FIRST)
    assert torch.equal(untrained, inject(unet, first)(x, STEPS[:1], FIRST))


def test_combining_keeps_the_sets_and_strengths_and_changes_neither_video_network(unet):
    half = Strength(overall=0.5)
    one = inject(unet, toy_layers(unet), half)
    two = combine(one, toy_layers(unet))
    assert [i.strength for i in two.injections] == [half, Strength()]
    assert two.sets[0] is one.sets[0] and len(one.sets) == 1


def test_at_one_site_layers_act_in_the_order_of_the_sets(unet):
    layers = [fill(toy_layers(unet, sites=("mid.res.0",)), seed=k) for k in range(2)]
    video = combine(inject(unet, layers[0]), layers[1])
    calls = []
    for k, set_ in enumerate(video.sets):
        set_.at("mid.res.0").register_forward_hook(lambda *_, k=k: calls.append(k))
    video(normal(1, 2, 4, 8, 8), STEPS[:1], FIRST)
    assert calls == [0, 1]


def test_every_site_is_visited_once_with_its_width():
    unet = toy_unet(**UNETS["three levels"])
    layout = layout_of(unet.config)
    sites = tuple(site for site in all_sites(layout) if ".block." not in site)
    layers = TemporalLayers(spec_from_table(layout, sites=sites, norm_groups=8))
    visited = []
    for site in sites:
        layers.at(site).register_forward_hook(lambda *_, site=site: visited.append(site))
    inject(unet, layers)(normal(1, 2, 4, 8, 8), STEPS[:1], FIRST)
    assert sorted(visited) == sorted(sites)
    assert visited[0] == "in"


def test_frames_mix_within_a_video_and_not_between_videos(unet):
    video = inject(unet, fill(toy_layers(unet)))
    x = normal(2, 3, 4, 8, 8)
    out = video(x, STEPS, GIVEN)
    torch.testing.assert_close(video(x[:1], STEPS[:1], FIRST), out[:1], atol=1e-4, rtol=1e-3)
    changed = x.clone()
    changed[0, 2] += 1
    again = video(changed, STEPS, GIVEN)
    assert not torch.allclose(again[0, 0], out[0, 0]) and torch.equal(again[1], out[1])


def test_a_prompt_per_frame(unet):
    x, texts = normal(2, 3, 4, 8, 8), normal(2, 3, 5, 16)
    out = VideoUNet(unet, [])(x, STEPS, Conditions(text=texts))
    expected = [unet(x[:, k], STEPS, texts[:, k]).sample for k in range(3)]
    torch.testing.assert_close(out, torch.stack(expected, dim=1), atol=2e-5, rtol=1e-4)
    assert torch.equal(first_frame_text(texts), texts[:, 0])
    assert first_frame_text(None) is None and first_frame_text(TEXT) is TEXT


def test_noise_levels_and_extra_conditions_are_those_of_the_image_network():
    x = normal(2, 3, 7, 8, 8)
    upscaler = toy_unet(in_channels=7, num_class_embeds=30)
    levels = torch.tensor([3, 20])
    given = replace(GIVEN, concatenated=x[:, :, 4:], ids={NOISE_LEVEL: levels})
    out = VideoUNet(upscaler, [])(x[:, :, :4], STEPS, given)
    expected = per_frame(upscaler, x, class_labels=levels)
    torch.testing.assert_close(out, expected, atol=2e-5, rtol=1e-4)
    xl = toy_unet(
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 12,
    )
    added = {"text_embeds": normal(2, 12), "time_ids": torch.arange(12.0).reshape(2, 6)}
    given = replace(GIVEN, pooled_text=added["text_embeds"], ids={SIZES: added["time_ids"]})
    out = VideoUNet(xl, [])(x[:, :, :4], STEPS, given)
    expected = per_frame(xl, x[:, :, :4], added_cond_kwargs=added)
    torch.testing.assert_close(out, expected, atol=2e-5, rtol=1e-4)


def test_one_timestep_serves_all_videos(unet):
    x, video = normal(2, 2, 4, 8, 8), VideoUNet(unet, [])
    both = torch.tensor([5.0, 5.0])
    assert torch.equal(video(x, torch.tensor(5.0), GIVEN), video(x, both, GIVEN))


def test_layers_of_another_network_are_refused_with_both_layouts(unet):
    sites = ("in",)
    other = TemporalLayers(spec_from_table(SD1, sites=sites))
    for refuse in (lambda: inject(unet, other), lambda: combine(VideoUNet(unet, []), other)):
        with pytest.raises(ValueError, match=r"\(320, 640, 1280, 1280\).*\(32, 64\)"):
            refuse()
    with pytest.raises(ValueError, match=r"\[2, 4, 8, 8\]"):
        VideoUNet(unet, [])(normal(2, 4, 8, 8), STEPS, GIVEN)


def test_sets_are_independent_modules_in_the_state_dict(unet):
    names = combine(inject(unet, toy_layers(unet)), toy_layers(unet)).state_dict()
    heads = [".".join(name.split(".")[:2]) for name in names if name.startswith("sets")]
    assert [head for head, _ in itertools.groupby(heads)] == ["sets.0", "sets.1"]


def in_place_network(unet) -> tuple[VideoUNet, ContextFrames]:
    layers = fill(toy_layers(unet, context_channels=4, context_in_place=True))
    known = given_frames(normal(2, 1, 4, 8, 8, seed=5), [1], 3)
    return inject(unet, layers), replace(known, noise_level=torch.tensor([0.0, 40.0]))


def test_given_frames_in_place_stand_at_their_own_step(unet):
    """At a given frame, x has no effect; with untrained layers, the output there is the image
    network's for the given latents at their own noise level."""
    network, context = in_place_network(unet)
    x, text = normal(2, 3, 4, 8, 8), normal(2, 5, 16)
    other = torch.cat([x[:, :1], normal(2, 1, 4, 8, 8, seed=9), x[:, 2:]], dim=1)
    steps = torch.tensor([700, 300])
    given = Conditions(text=text, context=context)
    out = network(x, steps, given)
    assert torch.equal(out, network(other, steps, given))
    assert not torch.equal(out, network(x, steps, replace(given, context=context.dropped())))
    untrained = toy_layers(unet, context_channels=4, context_in_place=True)
    alone = inject(unet, untrained)(x, steps, given)[:, 1]
    image = unet(context.latents[:, 1], torch.tensor([0.0, 40.0]), text).sample
    torch.testing.assert_close(alone, image, atol=2e-5, rtol=1e-5)


OFF = {
    "as a whole": Strength(overall=0.0),
    "by kind": Strength(kinds={"attention": 0.0, "convolution": 0.0}),
    "by site": Strength(sites={"in": 0.0, "down": 0.0, "mid": 0.0, "up": 0.0}),
}


@pytest.mark.parametrize("off", OFF.values(), ids=OFF)
def test_switched_off_a_set_puts_no_frames_in_place(unet, off):
    """Bit for bit, whatever frames are given: the image network sees its own input and steps."""
    network, context = in_place_network(unet)
    x, text, steps = normal(2, 3, 4, 8, 8), normal(2, 5, 16), torch.tensor([700, 300])
    image = VideoUNet(unet, [])(x, steps, Conditions(text=text))
    silent = network.with_strength(off)
    for given in (context, context.dropped(), None):
        assert torch.equal(silent(x, steps, Conditions(text=text, context=given)), image)
    other = fill(toy_layers(unet), seed=3)
    beside = combine(silent, other)(x, steps, Conditions(text=text, context=context))
    assert torch.equal(beside, inject(unet, other)(x, steps, Conditions(text=text)))


def test_no_given_frame_in_place_leaves_input_and_steps_as_they_are(unet):
    network, context = in_place_network(unet)
    x, per_frame_steps = normal(2, 3, 4, 8, 8), torch.tensor([[700, 6, 8], [300, 3, 4]])
    for given in (Conditions(), Conditions(context=context.dropped())):
        act = LayerPass(network.injections, given, x.shape, x.device)
        swapped, steps = act.put_context_in_place(x, torch.tensor([700, 300]))
        assert torch.equal(swapped, x)
        assert torch.equal(steps, torch.tensor([[700] * 3, [300] * 3]))
        assert torch.equal(act.put_context_in_place(x, per_frame_steps)[1], per_frame_steps)


def test_what_stands_behind_the_latents_stays_when_frames_are_put_in_place(unet):
    network, context = in_place_network(unet)
    x, given = normal(2, 3, 6, 8, 8), Conditions(context=context)
    act = LayerPass(network.injections, given, (2, 3, 4, 8, 8), x.device)
    swapped, steps = act.put_context_in_place(x, torch.tensor([700, 300]))
    assert torch.equal(swapped[:, 1, :4], context.latents[:, 1])
    assert torch.equal(swapped[:, :, 4:], x[:, :, 4:])
    assert steps.tolist() == [[700, 0, 700], [300, 40, 300]]


def test_a_network_says_what_it_takes():
    layers = dict(context_channels=4, rates=3)
    upscaler = toy_unet(in_channels=7, num_class_embeds=30)
    spec = inject(upscaler, toy_layers(upscaler, **layers)).spec
    assert (spec.latent_channels, spec.concatenated, spec.text, spec.context) == (4, 3, 16, 4)
    assert spec.ids == {NOISE_LEVEL: 30, FRAME_RATE: 3}
    assert VideoUNet(toy_unet(), []).spec.takes == ("text", "times", "reference")


# ------------------------------------------------------------------------- pooled text per frame


def test_pooled_text_per_frame_is_each_frames_own():
    unet = toy_unet(addition_embed_type="text_time", addition_time_embed_dim=4,
                    projection_class_embeddings_input_dim=6 * 4 + 8)  # fmt: skip
    network = VideoUNet(unet, [])
    x, sizes = normal(2, 3, 4, 8, 8), torch.tensor([[64.0, 64, 0, 0, 64, 64]]).repeat(2, 1)
    text, pooled = normal(2, 5, 16, seed=1), normal(2, 3, 8, seed=2)

    def answer(x, pooled):
        given = Conditions(text=text, pooled_text=pooled, ids={SIZES: sizes})
        return network(x, torch.tensor(500), given)

    whole = answer(x, pooled)
    for k in range(3):
        alone = answer(x[:, k : k + 1], pooled[:, k])
        torch.testing.assert_close(whole[:, k : k + 1], alone, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(whole, answer(x, pooled[:, 0]))
