"""Training steps on the meta device: what `videoldm evaluate training` prints, at toy size."""

from __future__ import annotations

from dataclasses import replace

from stable_diffusion_toys import toy_spec
from videoldm.core.evaluation import training
from videoldm.core.families.stable_diffusion_specs import autoencoder_config, unet_config
from videoldm.core.networks.sites import UNetLayout


def test_a_step_reaches_every_weight_of_the_layers_and_no_other(monkeypatch):
    spec = toy_spec("plain")
    layout = UNetLayout(channels=(32, 64), layers=1, depths=(1, 0))
    unet = spec.unet | unet_config(layout)
    monkeypatch.setitem(
        training.SPECS, "stable diffusion 1", replace(spec, layout=layout, unet=unet)
    )
    step = training.full_size_step("sd15_interpolation")
    assert step.moved and all(name.startswith(training.LAYERS) for name in step.moved)
    assert step.trained_tensors == len(step.moved)
    assert step.peak > 4 * (step.frozen + 3 * step.trained)


def test_a_decoder_s_step_reaches_its_layers_and_the_discriminator_alone(monkeypatch):
    small = autoencoder_config((32, 64), 1.0) | {"layers_per_block": 1}
    spec = replace(toy_spec("plain"), autoencoder=small)
    monkeypatch.setitem(training.SPECS, "stable diffusion 1", spec)
    step = training.decoder_step()
    assert {name.partition(".")[0] for name in step.moved} == {"decoder", "discriminator"}
    assert all(name.startswith(training.LAYERS) for name in step.moved)
    assert step.trained_tensors == len(step.moved)
