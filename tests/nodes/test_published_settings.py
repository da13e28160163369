"""Published settings of the temporal layers are the defaults; unsuitable settings warn."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from animatediff_toys import toy_config, toy_state
from safetensors.torch import save_file
from videoldm.core.networks.sites import UNetLayout
from videoldm.nodes.choices import AS_PUBLISHED
from videoldm.nodes.host import host
from videoldm.nodes.host.shared.setup_warnings import (
    CoreRun,
    LayerFacts,
    core_sampler_warnings,
)
from videoldm.nodes.stages.published import with_published_defaults
from videoldm.nodes.stages.running import Settings
from videoldm.nodes.stages.strategy import Strategy
from videoldm.nodes.stages.video_request import VideoRequest

LAYOUT = UNetLayout(channels=(32, 32), layers=1, depths=(0, 1))
FILES = {
    "animatediff_lightning_2step_comfyui.safetensors": ("v2", ("euler", 2, 1.0)),
    "lcm.safetensors": ("animatelcm", ("lcm", 4, 1.5)),
    "v3.safetensors": ("v3", ("ddim", 25, 7.5)),
}


@pytest.fixture
def model_of(run, parts, tmp_path):
    """model_of(name) injects the motion modules of a toy file into the image model."""

    def load(name):
        config = toy_config(FILES[name][0], layout=LAYOUT, heads=8, norm_groups=32)
        path = tmp_path / "models" / "videoldm" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({k: v.contiguous() for k, v in toy_state(config).items()}, path)
        layers = run("VideoLDM_LoadTemporalLayers", layers=name)
        return run("VideoLDM_InjectTemporalLayers", model=parts["model"], layers=layers)

    return load


def sampled(sample, model, **settings):
    settings = {"width": 16, "height": 16, "frames": 4, "steps": 0, **settings}
    return sample(model, **settings)["samples"]


@pytest.mark.parametrize("name", FILES)
def test_what_the_user_leaves_open_is_as_published(sample, model_of, name, caplog):
    model, (sampler, steps, cfg) = model_of(name), FILES[name][1]
    told = {"sampler_name": sampler, "steps": steps, "cfg": cfg}
    wanted = sampled(sample, model, **told)
    assert torch.equal(sampled(sample, model), wanted)
    assert not caplog.records, "what is as published is no fault"
    for one, own in (("steps", 1), ("sampler_name", "heun")):
        named = sampled(sample, model, **{one: own})
        assert torch.equal(named, sampled(sample, model, **{**told, one: own})), one
        assert not torch.equal(named, wanted), one


@pytest.mark.parametrize("name", FILES)
def test_guidance_is_as_published_unless_it_is_named(model_of, name):
    facts, usual = host.facts(model_of(name)), FILES[name][1][2]
    settings = Settings(steps=3, sampler_name="heun", schedule="trailing", seed=0)
    for cfg, used in ((0.0, usual), (1.2, 1.2)):
        request = VideoRequest(width=8, height=8, frames=2, cfg=cfg, guidance_rescale=0.0,
                               strategy=Strategy(name="single clip"))  # fmt: skip
        found, kept = with_published_defaults(facts, request, settings)
        assert found == replace(request, cfg=used) and kept == settings


def test_layers_of_which_nothing_was_published_are_sampled_as_usual(sample, video_model):
    model, usual = video_model(), {"sampler_name": "dpmpp_2m", "steps": 25, "cfg": 3.0}
    assert torch.equal(sampled(sample, model), sampled(sample, model, **usual))
    short = sampled(sample, model, sampler_name=AS_PUBLISHED, steps=2)
    assert torch.equal(short, sampled(sample, model, **{**usual, "steps": 2}))


def test_layers_of_few_steps_warn_of_other_settings(sample, model_of, caplog):
    sampled(sample, model_of("lcm.safetensors"), steps=9, cfg=7.0, sampler_name="ddim")
    (warning,) = [one.message for one in caplog.records]
    assert "at most 8 steps of the sampler lcm at cfg 2 or less, but" in warning
    assert "sampler_name is ddim and steps is 9 and cfg is 7" in warning


def test_ksampler_warns_of_its_steps(run, parts, model_of, caplog):
    told = dict(positive=parts["positive"], negative=parts["negative"], cfg=1.0, seed=1)
    latent, model = {"samples": torch.zeros(4, 4, 2, 2)}, model_of(next(iter(FILES)))
    run("KSampler", model=model, latent_image=latent, steps=2, **told)
    assert not caplog.records
    run("KSampler", model=model, latent_image=latent, steps=3, **told)
    (warning,) = [one.message for one in caplog.records]
    assert "at most 2 steps of the sampler euler at cfg 1 or less, but steps is 3" in warning


def test_ksampler_warns_of_a_sampler_and_a_cfg_that_do_not_suit(run, parts, model_of, caplog):
    told = dict(positive=parts["positive"], negative=parts["negative"], seed=1, steps=2,
                latent_image={"samples": torch.zeros(4, 4, 2, 2)})  # fmt: skip
    lightning, lcm = model_of(next(iter(FILES))), model_of("lcm.safetensors")
    for model, sampler, cfg in ((lightning, "euler", 1.0), (lightning, "ddim", 1.0),
                                (lcm, "lcm", 2.0)):  # fmt: skip
        run("KSampler", model=model, sampler_name=sampler, cfg=cfg, **told)
        assert not caplog.records, sampler
    run("KSampler", model=lightning, sampler_name="dpmpp_2m", cfg=7.5, **told)
    run("KSampler", model=lcm, sampler_name="euler", cfg=2.0, **told)
    found = [one.message.rpartition("but ")[2] for one in caplog.records]
    assert found == ["sampler_name is dpmpp_2m and cfg is 7.5", "sampler_name is euler"]


def test_layers_that_were_not_distilled_never_warn_of_it():
    for family in ("", "animatediff v3", "animatediff sdxl"):
        known = LayerFacts(present=True, family=family)
        run = CoreRun(sampler="euler", steps=50, cfg=7.5)
        assert core_sampler_warnings(known, 16, run) == []


def test_rolling_is_checked_with_the_steps_that_come_with_the_layers(sample, model_of):
    model = model_of("lcm.safetensors")
    with pytest.raises(ValueError, match="steps 4 must be at least window 5"):
        sampled(sample, model, **{"strategy": "rolling", "strategy.window": 5}, frames=8)
