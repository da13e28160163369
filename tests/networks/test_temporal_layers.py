import json

import pytest
import torch
from model_toys import fill, normal
from videoldm.core.families.embedded.specs import spec_from_table
from videoldm.core.networks.conditions import FRAME_RATE, Conditions
from videoldm.core.networks.context_frames import given_frames, no_context
from videoldm.core.networks.layers.residual import TemporalResBlockSpec
from videoldm.core.networks.layers.specs import KINDS, spec_from_dict
from videoldm.core.networks.sites import UNetLayout, all_sites, attn_sites, res_sites
from videoldm.core.networks.temporal_layers import Strength, TemporalLayers, key
from videoldm.core.networks.temporal_layers_spec import TemporalLayersSpec

LAYOUT = UNetLayout(channels=(32, 64), layers=1, depths=(1, 0), mid_depth=1)


def config(**changes):
    return spec_from_table(LAYOUT, **{"norm_groups": 8} | changes)


def test_by_default_a_layer_follows_every_residual_block_and_transformer():
    layers = TemporalLayers(config())
    wanted = [*res_sites(LAYOUT), *attn_sites(LAYOUT)]
    assert sorted(layers.layers) == sorted(key(site) for site in wanted)
    assert all(site in layers for site in wanted) and "in" not in layers


def test_the_file_reads_like_a_map_of_the_network():
    layers = TemporalLayers(config(sites=("down.0.res.0", "mid.attn.0")))
    names = {name.split(".")[1] for name in layers.state_dict()}
    assert names == {"down_0_res_0", "mid_attn_0"}
    assert layers.at("down.0.res.0") is layers.layers["down_0_res_0"]
    assert layers.at("up.0.res.0") is None


@pytest.mark.parametrize(
    "changes",
    [{}, dict(sites=tuple(all_sites(LAYOUT)), positions="relative", rates=2, modules=True),
     dict(context_channels=4, context_in_place=True, text_width=16, motions=2, shared_noise=1.0,
          positions="sinusoidal", motion_attention=(1,), clip_attention=(0,)),
     dict(pooled_host_norms=True, sparse_causal=True, betas=("linear", 1e-4, 2e-2),
          sites=("down.0.attn.0.block.0",), heads=(8, 2), family="lavie base")],
)  # fmt: skip
def test_a_declaration_survives_json(changes):
    ours = config(**changes)
    again = TemporalLayersSpec.from_dict(json.loads(json.dumps(ours.as_dict())))
    assert again == ours
    assert {type(one) for one in again.layers.values()} == {
        type(one) for one in ours.layers.values()
    }


def test_layers_are_built_as_they_are_declared_site_by_site():
    layers = {
        "down.0.res.0": TemporalResBlockSpec(kernel=5, norm_groups=8),
        "mid.res.0": TemporalResBlockSpec(kernel=1, norm_groups=4, learned_blend=False),
    }
    built = TemporalLayers(TemporalLayersSpec(layout=LAYOUT, layers=layers))
    assert built.at("down.0.res.0").conv1.kernel_size == (5, 1, 1)
    assert built.at("mid.res.0").conv1.weight.shape == (64, 64, 1, 1, 1)
    assert built.at("mid.res.0").blend.mix_factor is None


def test_heads_are_as_given_at_every_site():
    values = config(sites=("mid.attn.0",)).as_dict()
    values["layers"]["mid.attn.0"]["heads"] = 16
    built = TemporalLayers(TemporalLayersSpec.from_dict(values))
    assert built.at("mid.attn.0").attention.heads == 16


def test_what_cannot_be_read_is_refused_in_one_sentence():
    values = config().as_dict()
    values["layers"]["mid.res.0"]["kind"] = "wavelet"
    with pytest.raises(ValueError, match="'wavelet' is not a kind of temporal layer"):
        TemporalLayersSpec.from_dict(values)
    with pytest.raises(ValueError, match="'residual convolution' has an entry 'colour'"):
        spec_from_dict({"kind": "residual convolution", "colour": 1})
    with pytest.raises(ValueError, match="the layout must be an object, not None|layers and host"):
        TemporalLayersSpec.from_dict({"layers": {}})
    assert all(spec.kind == name for name, spec in KINDS.items())


def test_a_layer_in_the_wrong_place_is_refused():
    block = config(sites=("down.0.attn.0.block.0",)).layers["down.0.attn.0.block.0"]
    res = TemporalResBlockSpec()
    for site, layer in (("mid.res.0", block), ("down.0.attn.0.block.0", res)):
        with pytest.raises(ValueError, match=f"{site} lies .*no place for '{layer.kind}'"):
            TemporalLayersSpec(layout=LAYOUT, layers={site: layer})


def test_strength_is_the_product_of_the_three_that_concern_a_site():
    strength = Strength(
        overall=0.5, kinds={"attention": 0.4}, sites={"down": 3.0, "down.1.attn.0": 0.1}
    )
    assert strength.at("mid.res.0") == pytest.approx(0.5)
    assert strength.at("mid.attn.0") == pytest.approx(0.2)
    assert strength.at("down.0.res.1") == pytest.approx(1.5)
    assert strength.at("down.1.attn.0") == pytest.approx(0.5 * 0.4 * 3.0 * 0.1)
    assert Strength(sites={"down.1": 0.0}).at("down.10.res.0") == 1.0


def test_running_where_there_is_no_layer_or_no_strength_returns_the_very_tensor():
    layers = fill(TemporalLayers(config(sites=("down.0.res.0",))))
    h = normal(3, 32, 4, 4)
    told = layers.prepare(normal(1, 128), 3, Conditions())
    assert layers.run("down.0.attn.0", h, told) is h
    assert layers.run("down.0.res.0", h, told, 0.0) is h
    assert not torch.equal(layers.run("down.0.res.0", h, told), h)


@pytest.mark.parametrize("height, width", [(8, 8), (7, 5), (1, 3)])
def test_given_frames_are_encoded_to_every_level(height, width):
    layers = fill(TemporalLayers(config(context_channels=4)))
    context = given_frames(normal(2, 1, 4, height, width), [0], 3)
    told = layers.prepare(normal(2, 128), 3, Conditions(context=context))
    sizes = [(6, height, width), (6, (height + 1) // 2, (width + 1) // 2)]
    assert [(len(one.context), *one.context.shape[2:]) for one in told.levels] == sizes
    assert told.levels[0].embedding.shape == (6, 128)


def test_layers_are_told_the_noise_on_given_frames_and_the_rate():
    layers = fill(TemporalLayers(config(context_channels=4, rates=3)))
    embedding, context = normal(2, 128), no_context((2, 3, 4, 8, 8))
    perturbed = given_frames(normal(2, 1, 4, 8, 8), [0], 3)
    perturbed.noise_level[:] = 250
    plain, rated, noisy = (
        layers.prepare(embedding, 3, Conditions(**more)).levels[0].embedding
        for more in (
            {"context": context},
            {"context": context, "ids": {FRAME_RATE: torch.tensor([2, 2])}},
            {"context": perturbed},
        )
    )
    assert torch.allclose(rated - plain, layers.rate.weight[2].expand_as(plain), atol=1e-5)
    assert not torch.allclose(noisy, plain)


def test_layers_without_context_are_told_nothing_of_it():
    layers = TemporalLayers(config())
    embedding = normal(2, 128)
    context = given_frames(normal(2, 1, 4, 8, 8), [0], 3)
    told = layers.prepare(
        embedding, 3, Conditions(context=context, ids={FRAME_RATE: torch.tensor([0, 0])})
    )
    assert all(one.context is None for one in told.levels)
    assert torch.equal(told.levels[0].embedding, embedding.repeat_interleave(3, dim=0))


def test_what_cannot_be_built_is_refused():
    with pytest.raises(ValueError, match="'absolute'"):
        TemporalLayers(config(positions="absolute"))
    with pytest.raises(ValueError, match="'down.0.mlp.0' is not a site"):
        config(sites=("down.0.mlp.0",))


def test_layers_that_read_the_prompt_are_told_its_summary_and_motions():
    layers = fill(TemporalLayers(config(text_width=16, motions=3)))
    embedding, text = normal(2, 128), normal(2, 7, 16)
    plain = layers.prepare(embedding, 3, Conditions()).levels[0]
    told = layers.prepare(embedding, 3, Conditions(text=text)).levels[1]
    assert plain.extension is None and told.extension.shape == (2, 3, 2)
    summary = told.embedding - plain.embedding
    assert torch.allclose(summary[0], summary[2]) and not torch.allclose(summary[0], summary[3])


@pytest.mark.parametrize("length", [1, 48, 60])
def test_prompts_of_any_length_are_read(length):
    layers = fill(TemporalLayers(config(text_width=16, motions=2)))
    text = normal(1, length, 16)
    tokens, summary, motions = layers.prompt(text)
    assert tokens.shape == text.shape and summary.shape == (1, 128)
    beyond = torch.cat([text[:, :48], normal(1, 9, 16, seed=1)], dim=1)
    assert torch.equal(layers.prompt(beyond)[2], motions) == (length >= 48)


def test_whitening_makes_every_direction_of_the_tokens_count_the_same():
    layers = TemporalLayers(config(text_width=16, motions=2))
    tokens = normal(500, 16) * torch.logspace(0, -1, 16) + 3
    layers.prompt.start_whitening(tokens)
    white, _, _ = layers.prompt(tokens[:, None])
    torch.testing.assert_close(white.mean(0)[0], torch.zeros(16), atol=1e-4, rtol=0)
    covariance = white[:, 0].T @ white[:, 0] / 500
    torch.testing.assert_close(covariance, torch.eye(16), atol=0.15, rtol=0)
