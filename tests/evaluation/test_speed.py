import json
from types import SimpleNamespace

import pytest
import torch
from videoldm.core.evaluation import memory, motion_speed, speed, video_network_speed
from videoldm.core.families.lavie_config import LavieConfig
from videoldm.core.networks.autoencoder_3d import Autoencoder3DConfig
from videoldm.core.networks.factorised_unet import FactorisedConfig, FactorisedUNet
from videoldm.core.networks.layers.factorised_transformers import InterleavedTransformerSpec
from videoldm.core.networks.sites import UNetLayout
from videoldm.nodes.headless import main

TOY = LavieConfig(
    kind="base",
    layout=UNetLayout(channels=(32, 64), layers=1, depths=(1, 0)),
    heads=(1, 2),
    context_width=768,
    norm_groups=8,
)


@pytest.fixture
def little(monkeypatch):
    """A small convolution, called twice."""
    small = speed.plain_convolution
    monkeypatch.setattr(speed, "plain_convolution", lambda g: small(g, channels=8, side=4, batch=1))
    monkeypatch.setattr(speed, "STRETCH", 2)


def test_a_rate_is_a_share_of_the_convolution(little, monkeypatch):
    monkeypatch.setattr(speed, "LAVIE_BASE", TOY)
    monkeypatch.setattr(speed, "LAVIE_BASE_CLIP", (1, 2, 4, 4, 4))
    rate = speed.rate(speed.lavie_base(), 1e6, repeats=1)
    assert rate.share == pytest.approx(rate.network / rate.convolution) and rate.share > 0


def test_the_convolution_is_timed_for_as_many_operations_as_it_is_called(monkeypatch):
    now = [0.0]

    def takes(seconds):
        now[0] += seconds

    monkeypatch.setattr(speed, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(speed, "plain_convolution", lambda g: (lambda: takes(0.5), 1e6))
    monkeypatch.setattr(speed, "STRETCH", 4)
    rate = speed.rate(lambda: takes(4.0), 4e6, repeats=2)
    assert (rate.network, rate.convolution, rate.share) == (1e6, 2e6, 0.5)


def test_both_networks_have_the_same_weights_and_run_in_turns(monkeypatch):
    small = dict(block_out_channels=(32, 64), down_block_types=("CrossAttnDownBlock2D",) * 2,
                 up_block_types=("CrossAttnUpBlock2D",) * 2, cross_attention_dim=16,
                 layers_per_block=1, attention_head_dim=8)  # fmt: skip
    monkeypatch.setattr(motion_speed, "CONFIG", small)
    adapter = dict(block_out_channels=(32, 64), motion_layers_per_block=1)
    monkeypatch.setattr(motion_speed, "ADAPTER", adapter)
    ours, theirs = motion_speed.networks(torch.float32)
    weights = ours.sets[0].at("mid.attn.0").blocks[0].attentions[0].to_q.base.weight
    block = theirs.mid_block.motion_modules[0].transformer_blocks[0]
    assert torch.equal(weights, block.attn1.to_q.weight)
    assert torch.equal(ours.image_unet.conv_in.weight, theirs.conv_in.weight)
    for dtype in motion_speed.PRECISIONS.values():
        race = motion_speed.race(dtype, repeats=1, videos=(1, 2, 4, 8, 8))
        assert race.ours > 0 and race.ratio == race.ours / race.theirs


def test_the_convolution_counts_its_own_operations():
    call, flop = speed.plain_convolution(torch.Generator(), channels=4, side=2, batch=3)
    assert call().shape == (3, 4, 2, 2) and flop == 2 * 3 * 4 * 4 * 4 * 9


def test_the_network_for_text_is_the_published_one():
    with torch.device("meta"):
        network = FactorisedUNet(video_network_speed.TEXT_TO_VIDEO)
    assert sum(one.numel() for one in network.parameters()) == 958_924_964


def test_networks_made_for_video_are_run_in_turn_with_the_convolution(little, monkeypatch):
    monkeypatch.setattr(video_network_speed, "VIDEO", (1, 2, 4, 4, 4))
    monkeypatch.setattr(video_network_speed, "LATENTS", (1, 1, 4, 2, 2))
    attention = InterleavedTransformerSpec(heads=8, text=8, max_distance=2)
    toy = FactorisedConfig(channels=(32,), layers=1, attended=(True,), attention=attention)
    network = video_network_speed.text_to_video(toy)
    decoder = video_network_speed.decoder(Autoencoder3DConfig(width=16, factors=(2, 2, 2)))
    assert network().shape == (1, 2, 4, 4, 4) and decoder().shape == (1, 2, 3, 4, 4)
    for call in (network, decoder):
        one = speed.rate(call, 1e6, repeats=1)
        assert one.share == pytest.approx(one.network / one.convolution) and one.share > 0


def test_the_command_prints_the_figure(monkeypatch, capsys):
    monkeypatch.setattr(video_network_speed, "report", lambda: ({"LVDM": 0.9}, ["LVDM 0.9"]))
    monkeypatch.setattr(speed, "lavie_base", lambda: None)
    monkeypatch.setattr(speed, "rate", lambda call, flop: speed.Rate(85e9, 100e9))
    monkeypatch.setattr(motion_speed, "race", lambda dtype: motion_speed.Race(3.0, 4.0))
    assert main(["evaluate", "speed", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["share"] == pytest.approx(0.85) and found["motion modules bf16"] == 0.75
    assert found["LVDM"] == 0.9
    assert main(["evaluate", "speed"]) == 0
    told = capsys.readouterr().out
    assert "85.0 GFLOP/s, 0.850 of" in told and "3.0 s, 0.750 of diffusers' 4.0 s" in told
    assert main(["evaluate", "speed", "--only", "share"]) == 2


def test_the_command_prints_what_memory_grows_by(monkeypatch, capsys):
    # Tiles of 128, some of which are cut off by the frame's edge, as they are in the larger ones.
    monkeypatch.setattr(memory, "SMALL_FRAMES", (128, 160))
    assert main(["evaluate", "memory", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    for one in (found, found["x4"]):
        assert one["frames"] == [16, 61] and 0.9 < one["ratio"] <= 1.15
