import json

import pytest
import torch
from videoldm.core.evaluation import speed
from videoldm.core.families.lavie_config import LavieConfig
from videoldm.core.networks.sites import UNetLayout
from videoldm.nodes.headless import main

TOY = LavieConfig(
    kind="base",
    layout=UNetLayout(channels=(32, 64), layers=1, depths=(1, 0)),
    heads=(1, 2),
    context_width=768,
    norm_groups=8,
)


def test_a_rate_is_a_share_of_the_convolution(monkeypatch):
    monkeypatch.setattr(speed, "LAVIE_BASE", TOY)
    monkeypatch.setattr(speed, "LAVIE_BASE_CLIP", (1, 2, 4, 4, 4))
    small = speed.plain_convolution
    monkeypatch.setattr(speed, "plain_convolution", lambda g: small(g, channels=8, side=4, batch=1))
    rate = speed.lavie_base_rate(repeats=1)
    assert rate.share == pytest.approx(rate.network / rate.convolution) and rate.share > 0


def test_the_convolution_counts_its_own_operations():
    call, flop = speed.plain_convolution(torch.Generator(), channels=4, side=2, batch=3)
    assert call().shape == (3, 4, 2, 2) and flop == 2 * 3 * 4 * 4 * 4 * 9


def test_the_command_prints_the_figure(monkeypatch, capsys):
    monkeypatch.setattr(speed, "lavie_base_rate", lambda: speed.Rate(85e9, 100e9))
    assert main(["evaluate", "speed", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["share"] == pytest.approx(0.85)
    assert main(["evaluate", "speed"]) == 0
    assert "85.0 GFLOP/s, 0.850 of" in capsys.readouterr().out
    assert main(["evaluate", "speed", "--only", "share"]) == 2


def test_the_command_prints_what_memory_grows_by(capsys):
    assert main(["evaluate", "memory", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["frames"] == [16, 61] and 0.9 < found["ratio"] <= 1.15
