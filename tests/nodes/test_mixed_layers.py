"""Temporal layers of several families in one image model, also one with a LoRA merged in."""

from __future__ import annotations

import pytest
import torch
from animatediff_flows import LAYOUT
from animatediff_toys import toy_config, toy_state
from model_toys import normal
from safetensors.torch import save_file
from videoldm.core.networks.sites import UNetLayout


@pytest.fixture
def layers(run, tmp_path):
    """layers(variant, layout) loads motion modules, by default for the toy model's layout."""

    def load(variant: str, layout: UNetLayout = LAYOUT):
        config = toy_config(variant, layout=layout, heads=8, norm_groups=32)
        path = tmp_path / "models" / "videoldm" / f"{variant}{len(layout.channels)}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({k: v.contiguous() for k, v in toy_state(config).items()}, path)
        return run("VideoLDM_LoadTemporalLayers", layers=path.name)

    return load


def injected(run, model, layers, strength=1.0):
    return run("VideoLDM_InjectTemporalLayers", model=model, layers=layers, strength=strength)


def sampled(run, parts, model):
    latent = {"samples": torch.zeros(4, 4, 4, 4)}
    told = dict(model=model, positive=parts["positive"], negative=parts["negative"])
    return run("KSampler", **told, latent_image=latent, steps=2, seed=3, cfg=2.0)["samples"]


def test_two_families_act_one_after_the_other_and_each_can_be_left_out(run, parts, layers):
    own = run("VideoLDM_LoadTemporalLayers", layers="embedded: text to video")
    modules = layers("v2")
    alone = [sampled(run, parts, injected(run, parts["model"], one)) for one in (own, modules)]
    both = injected(run, injected(run, parts["model"], own), modules)
    together = sampled(run, parts, both)
    assert all(not torch.allclose(together, one, atol=1e-3) for one in alone)
    for keep, expected in zip((1.0, 0.0), alone, strict=True):
        mixed = injected(run, injected(run, parts["model"], own, keep), modules, 1.0 - keep)
        assert torch.equal(sampled(run, parts, mixed), expected)
    ejected = run("VideoLDM_EjectTemporalLayers", model=both)
    assert torch.equal(sampled(run, parts, ejected), sampled(run, parts, parts["model"]))


def test_layers_go_into_a_personalised_model_with_a_lora(run, parts, layers, tmp_path):
    name = "input_blocks.0.0"
    lora = {f"lora_unet_{name.replace('.', '_')}.lora_down.weight": normal(2, 4, 3, 3),
            f"lora_unet_{name.replace('.', '_')}.lora_up.weight": normal(32, 2, 1, 1)}  # fmt: skip
    path = tmp_path / "models" / "loras" / "style.safetensors"
    path.parent.mkdir(parents=True)
    save_file(lora, path)
    personal = run("LoraLoaderModelOnly", model=parts["model"], lora_name=path.name,
                   strength_model=0.3)  # fmt: skip
    modules = layers("v3")
    plain, styled = (
        sampled(run, parts, injected(run, model, modules)) for model in (parts["model"], personal)
    )
    assert not torch.allclose(plain, styled, atol=1e-3)
    after = run("LoraLoaderModelOnly", model=injected(run, parts["model"], modules),
                lora_name=path.name, strength_model=0.3)  # fmt: skip
    torch.testing.assert_close(sampled(run, parts, after), styled, atol=1e-4, rtol=1e-4)


def test_the_last_set_with_noise_levels_of_its_own_decides(run, parts, layers):
    both = injected(run, injected(run, parts["model"], layers("v3")), layers("sdxl"))
    last = injected(run, parts["model"], layers("sdxl"))
    assert torch.equal(both.core.schedule.sigmas, last.core.schedule.sigmas)


def test_layers_for_another_image_model_are_one_sentence(run, parts, layers):
    other = UNetLayout(channels=(32, 32, 32), layers=1, depths=(0, 1, 1))
    with pytest.raises(ValueError, match="these temporal layers are made for .*, but the model is"):
        injected(run, parts["model"], layers("v3", other))
