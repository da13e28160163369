"""LVDM's training tasks: the gradients of the autoencoder's losses, and masks of given frames."""

from __future__ import annotations

from random import Random

import factorised_toys as toys
import pytest
import torch
from model_toys import normal
from videoldm.core.families import lvdm
from videoldm.core.families.embedded import loading as embedded
from videoldm.core.training.autoencoder_3d_losses import (
    AutoencoderLoss,
    LossSettings,
    Pair,
    last_weight,
)
from videoldm.core.training.discriminator import PatchDiscriminator
from videoldm.core.training.given_frames import MaskDistribution
from videoldm.core.training.given_frames_task import TrainGivenFrames
from videoldm.core.training.perceptual import PerceptualDistance, VggFeatures
from videoldm.core.training.recipe import Recipe


@pytest.fixture
def loss():
    torch.manual_seed(0)
    settings = LossSettings(disc_start=10, kl_weight=1e-3)
    return AutoencoderLoss(PerceptualDistance(VggFeatures()), PatchDiscriminator(4, 1), settings)


def losses(loss, step, selected=None):
    module = toys.autoencoder().requires_grad_(True)
    video = normal(1, 4, 3, 32, 32).clamp(-1, 1)
    posterior = module.posterior(video)
    made = module(module.scaled(posterior.mean))
    pair = Pair(video=video, reconstruction=made, selected=selected)
    found = loss(pair, posterior, last_weight(module), step)
    return module, found


def test_each_loss_moves_its_own_network(loss):
    module, found = losses(loss, step=10)
    found.discriminator.backward(retain_graph=True)
    assert all(one.grad is None for one in module.parameters())
    before = [one.grad.clone() for one in loss.discriminator.parameters()]
    found.autoencoder.backward()
    after = [one.grad for one in loss.discriminator.parameters()]
    assert all(map(torch.equal, before, after)) and any(one.any() for one in after)
    assert last_weight(module).grad.any()
    assert all(one.grad is None for one in loss.distance.parameters())


def test_the_discriminator_has_no_say_before_its_start(loss):
    _, early = losses(loss, step=9)
    _, late = losses(loss, step=10)
    assert early.discriminator == 0 and late.discriminator > 0
    assert early.autoencoder != late.autoencoder and early.nll == late.nll


def test_all_frames_selected_is_what_none_chosen_means(loss):
    _, whole = losses(loss, step=0)
    _, listed = losses(loss, step=0, selected=torch.arange(4))
    assert torch.equal(whole.nll, listed.nll)


def test_masks_are_drawn_in_their_shares():
    how = MaskDistribution(interpolation=0.3, prediction=0.5, n_previous=(1, 2))
    random = Random(0)
    masks = [tuple(how.draw(5, random)) for _ in range(4000)]
    shares = {mask: masks.count(mask) / 4000 for mask in set(masks)}
    assert shares.pop((1, 0, 0, 0, 1)) == pytest.approx(0.3, abs=0.03)
    assert shares.pop((1, 0, 0, 0, 0)) == pytest.approx(0.25, abs=0.03)
    assert shares.pop((1, 1, 0, 0, 0)) == pytest.approx(0.25, abs=0.03)
    assert shares.keys() == {(0, 0, 0, 0, 0)}
    with pytest.raises(ValueError, match=r"interpolation 0\.9 and of prediction 0\.5"):
        MaskDistribution(interpolation=0.9, prediction=0.5)


@pytest.fixture
def task(tmp_path, monkeypatch):
    file = tmp_path / "lvdm_autoencoder.safetensors"
    module = toys.autoencoder()
    lvdm.save(file, module.state_dict(), lvdm.autoencoder_header(module.config, {}))
    monkeypatch.setattr(embedded, "path_of", lambda name: file)
    sizes = dict(channels=[32], layers=1, attended=[True], heads=4)
    videos = dict(count=2, size=8)
    masks = dict(interpolation=0.5, prediction=0.25)
    data = dict(frames=3, spacing=2, masks=masks, videos=videos)
    recipe = Recipe(
        name="toy", task="given_frames", output="toy.safetensors", steps=1, batch=32, model=sizes,
        data=data, start_from={"autoencoder": "lvdm_autoencoder"}, precision="fp32",
    )  # fmt: skip
    return TrainGivenFrames(recipe, tmp_path)


def test_windows_with_both_ends_given_are_of_frames_that_follow_each_other(task):
    assert task.latents.shape == (2, 5, 4, 4, 4)
    order = torch.arange(5.0).reshape(1, 5, 1, 1, 1).expand_as(task.latents)
    task.latents = order
    batch = task.batch(0)
    steps = batch["latents"][:, :, 0, 0, 0].diff(dim=1)
    between = batch["mask"][:, -1] == 1
    assert between.any() and not between.all()
    assert (steps[between] == 1).all() and (steps[~between] == 2).all()
    assert torch.equal(batch["latents"], task.batch(0)["latents"])


def test_a_trained_network_is_loaded_with_the_autoencoder_s_scale(task, tmp_path):
    losses = task.loss(task.batch(0), torch.Generator().manual_seed(0))
    losses["loss"].backward()
    assert task.module.conv_out.weight.grad.any()
    task.save(tmp_path / "model.safetensors", {})
    found = lvdm.load_parts(tmp_path / "model.safetensors", hints=lvdm.CheckpointHints())
    assert found.model.task == "prediction" and found.model.temporal_factor == 2
    assert found.model.latent_scale == found.autoencoder.config.scale
