import json

import pytest
import torch
from model_toys import fill, normal
from videoldm.core.context_frames import given_frames, no_context
from videoldm.core.sites import X4_UPSCALER, UNetLayout, attn_sites, res_sites
from videoldm.core.temporal_layers import Strength, TemporalLayers, TemporalLayersConfig, key

LAYOUT = UNetLayout(channels=(32, 64), layers=1, depths=(1, 0), mid_depth=1)


def config(**changes):
    return TemporalLayersConfig(layout=LAYOUT, **{"norm_groups": 8} | changes)


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


def test_a_config_survives_json():
    ours = config(sites=("down.0.res.0",), positions="relative", context_channels=4, rates=2)
    assert TemporalLayersConfig.from_dict(json.loads(json.dumps(ours.as_dict()))) == ours
    upscaler = TemporalLayersConfig(layout=X4_UPSCALER)
    assert TemporalLayersConfig.from_dict(json.loads(json.dumps(upscaler.as_dict()))) == upscaler


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
    told = layers.tell(normal(1, 128), 3)
    assert layers.run("down.0.attn.0", h, told) is h
    assert layers.run("down.0.res.0", h, told, 0.0) is h
    assert not torch.equal(layers.run("down.0.res.0", h, told), h)


@pytest.mark.parametrize("height, width", [(8, 8), (7, 5), (1, 3)])
def test_given_frames_are_encoded_to_every_level(height, width):
    layers = fill(TemporalLayers(config(context_channels=4)))
    context = given_frames(normal(2, 1, 4, height, width), [0], 3)
    told = layers.tell(normal(2, 128), 3, context=context)
    sizes = [(6, height, width), (6, (height + 1) // 2, (width + 1) // 2)]
    assert [(len(one.context), *one.context.shape[2:]) for one in told.levels] == sizes
    assert told.levels[0].embedding.shape == (6, 128)


def test_layers_are_told_the_noise_on_given_frames_and_the_rate():
    layers = fill(TemporalLayers(config(context_channels=4, rates=3)))
    embedding, context = normal(2, 128), no_context((2, 3, 4, 8, 8))
    perturbed = given_frames(normal(2, 1, 4, 8, 8), [0], 3)
    perturbed.noise_level[:] = 250
    plain, rated, noisy = (
        layers.tell(embedding, 3, **more).levels[0].embedding
        for more in (
            {"context": context},
            {"context": context, "rate": torch.tensor([2, 2])},
            {"context": perturbed},
        )
    )
    assert torch.allclose(rated - plain, layers.rate.weight[2].expand_as(plain), atol=1e-5)
    assert not torch.allclose(noisy, plain)


def test_layers_without_context_are_told_nothing_of_it():
    layers = TemporalLayers(config())
    embedding = normal(2, 128)
    context = given_frames(normal(2, 1, 4, 8, 8), [0], 3)
    told = layers.tell(embedding, 3, context=context, rate=torch.tensor([0, 0]))
    assert all(one.context is None for one in told.levels)
    assert torch.equal(told.levels[0].embedding, embedding.repeat_interleave(3, dim=0))


def test_what_cannot_be_built_is_refused():
    with pytest.raises(ValueError, match="'absolute'"):
        config(positions="absolute")
    with pytest.raises(ValueError, match="'down.0.mlp.0' is not a site"):
        config(sites=("down.0.mlp.0",))


def test_layers_that_read_the_prompt_are_told_its_summary_and_motions():
    layers = fill(TemporalLayers(config(text_width=16, motions=3)))
    embedding, text = normal(2, 128), normal(2, 7, 16)
    plain = layers.tell(embedding, 3).levels[0]
    told = layers.tell(embedding, 3, text=text).levels[1]
    assert plain.motions is None and told.motions.shape == (2, 3, 2)
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
