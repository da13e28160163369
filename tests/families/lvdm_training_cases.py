"""Runs the recorded cases of LVDM's training: losses and their gradients."""

from __future__ import annotations

from pathlib import Path
from random import Random

import recipe
import torch
from golden_cases import Case, check_close, check_sampled
from lvdm_cases import autoencoder_of, model_of
from torch import Tensor
from videoldm.core.families import factorised_keys as keys
from videoldm.core.networks.conditions import Conditions
from videoldm.core.training.autoencoder_3d_losses import (
    AutoencoderLoss,
    LossSettings,
    Pair,
    last_weight,
)
from videoldm.core.training.discriminator import PatchDiscriminator
from videoldm.core.training.given_frames import (
    MaskDistribution,
    Noise,
    given_frames_error,
    l1,
    l2,
    noise_error,
)
from videoldm.core.training.perceptual import PREFIX, STAGES, PerceptualDistance, lpips_from

LOSS, GRADIENT = 2e-5, 5e-4


# --------------------------------------------------------------------------------------------------
# Losses of the autoencoder.


def distance_of(told: dict) -> PerceptualDistance:
    """VGG16 of the recipe, under the names of a training checkpoint."""
    state, index, channels = {}, 0, 3
    for i, (width, count) in enumerate(STAGES):
        index += i > 0
        for _ in range(count):
            shapes = {"weight": (width, channels, 3, 3), "bias": (width,)}
            for end, shape in shapes.items():
                key = f"{PREFIX}net.slice{i + 1}.{index}.{end}"
                state[key] = recipe.tensor(told["seed"], key, shape)
            channels, index = width, index + 2
        key = f"{PREFIX}lin{i}.model.1.weight"
        state[key] = 0.5 * recipe.tensor(told["seed"], key, (1, width, 1, 1)).abs()
    return lpips_from(state, "the recipe")


def discriminator_of(told: dict) -> PatchDiscriminator:
    module = PatchDiscriminator()
    for name, parameter in module.named_parameters():
        key = f"{told['prefix']}discriminator.main.{name.removeprefix('layers.')}"
        parameter.data = recipe.tensor(told["seed"], key, parameter.shape)
    return module


def autoencoder_losses(case: Case, folder: Path) -> None:
    told, inputs, expected = case.told, case.inputs(), case.expected()
    module = autoencoder_of(case).requires_grad_(True)
    distance, discriminator = (
        distance_of(told["loss_recipe"]),
        discriminator_of(told["loss_recipe"]),
    )
    video = inputs["video"]
    for run, how in told["runs"].items():
        settings = {k: v for k, v in how.items() if k != "global_step"}
        settings["disc_start"] = told["loss_config"]["disc_start"]
        loss = AutoencoderLoss(distance, discriminator, LossSettings(**settings))
        posterior = module.posterior(video)
        made = module(module.scaled(posterior.sample(inputs["posterior_noise"])))
        pair = Pair(video=video, reconstruction=made)
        found = loss(pair, posterior, last_weight(module), how["global_step"])
        check_close(made, expected["reconstruction"], "reconstruction", LOSS)
        with torch.no_grad():
            each = distance(video[0], made[0])
        check_close(each, expected["p_loss_per_frame"], "p_loss_per_frame", LOSS)
        names = {
            "ae_loss": found.autoencoder,
            "disc_loss": found.discriminator,
            "kl_loss": found.kl,
            "nll_loss": found.nll,
            "rec_loss": found.reconstruction,
            "g_loss": found.generator,
            "d_weight": found.adaptive,
            "logits_real": found.real,
            "logits_fake": found.fake,
        }
        for name, value in names.items():
            tolerance = GRADIENT if name in ("d_weight", "ae_loss") else LOSS
            _check(value.reshape(1), expected[f"{run}.{name}"], f"{run}.{name}", tolerance)
        module.zero_grad(), discriminator.zero_grad()
        (found.autoencoder + found.discriminator).backward()
        gradients = {
            "decoder.conv_out.conv.weight": last_weight(module).grad,
            "encoder.conv_first.conv.weight": module.encoder.conv_in.conv.weight.grad,
            "discriminator.main.0.weight": discriminator.layers[0].weight.grad,
        }
        for name, gradient in gradients.items():
            _check(
                gradient, case.raw("expected")[f"{run}.grad.{name}"], f"{run}.grad.{name}", GRADIENT
            )


def _check(got: Tensor, expected: Tensor, what: str, tolerance: float) -> None:
    """A relative check, or an exact one where all expected values are zero."""
    if expected.any():
        check_sampled(got, expected, what, tolerance)
    else:
        assert not got.any(), what


# --------------------------------------------------------------------------------------------------
# Losses of the U-Nets.

LOSSES = {"l1": l1, "l2": l2}


def masks_of(params: dict) -> MaskDistribution:
    """The distribution of given frames in the original's configuration."""
    previous = params["n_prevs"] or (1,)
    return MaskDistribution(
        interpolation=params["p_interp"], prediction=params["p_pred"], n_previous=tuple(previous)
    )


def training(case: Case, folder: Path) -> None:
    """Losses and gradients of each network, with the recorded noise."""
    told, inputs, raw = case.told, case.inputs(), case.raw("expected")
    for run, how in told["runs"].items():
        source = Case(case.folder.parent / told["model_cases"][run])
        found, params = model_of(source, folder, "raw").model, source.told["config"]["params"]
        network = found.network.requires_grad_(True)
        given = {k.removeprefix(f"{run}."): v for k, v in inputs.items() if k.startswith(f"{run}.")}
        if "p_pred" in params:
            error = _given(found, given, masks_of(params), how["py_seed"], raw[f"{run}.mask"])
        else:
            step, noise = given["noise.0"], given["noise.1"]
            text = Conditions(text=given.get("context"))
            error = noise_error(network, found.schedule, given["x0"], noise, step, text)
        loss = LOSSES[params.get("loss_type", "l2")](error)
        check_close(loss.detach().reshape(1), raw[f"{run}.loss"], f"{run}.loss", LOSS)
        network.zero_grad()
        loss.backward()
        gradients = {k: p.grad for k, p in network.named_parameters()}
        named = keys.unet_to_original(gradients, network.config)
        for name in how["grads"]:
            what = f"{run}.grad.{name}"
            check_sampled(named[name], raw[what], what, GRADIENT)


def _given(
    found, given: dict[str, Tensor], masks: MaskDistribution, seed: int, known: Tensor
) -> Tensor:
    x0, random = given["x0"], Random(seed)
    mask = torch.tensor([masks.draw(x0.shape[1], random) for _ in x0])
    assert torch.equal(mask, known.reshape(*mask.shape, -1)[..., 0])
    level, step, made, of_given = (given[f"noise.{i}"] for i in range(4))
    noise = Noise(level=level, step=step, made=made, given=of_given)
    return given_frames_error(found.network, found.schedule, x0, mask, noise)


KINDS = {"ae_loss": autoencoder_losses, "train": training}
