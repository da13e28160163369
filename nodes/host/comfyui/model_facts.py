"""What stages must know of a MODEL of ComfyUI's."""

from __future__ import annotations

from typing import Any

import comfy.model_sampling

from ....core.denoiser import Prediction
from ..interface import ModelFacts
from ..shared.layer_facts import layer_facts
from ..shared.misfits import IMAGE_MODELS
from .embedded_model import EmbeddedModel, schedule_of
from .layers import core_sets, sets_of


def facts_of(model: Any) -> ModelFacts:
    """What stages must know of a MODEL."""
    latents = model.model.latent_format
    if latents.latent_dimensions != 2:
        raise ValueError(
            f"the model is one of videos or audio already (its latents have "
            f"{latents.latent_dimensions} dimensions, not 2): this node takes {IMAGE_MODELS}"
        )
    sets = core_sets(sets_of(model))
    own = model.model if isinstance(model.model, EmbeddedModel) else None
    return ModelFacts(
        latent_channels=latents.latent_channels,
        factor=getattr(latents, "spacial_downscale_ratio", 8),
        schedule=schedule_of(model),
        device=model.load_device,
        channels=model.model.model_config.unet_config.get("model_channels", 320),
        precision=(model.model.manual_cast_dtype or model.model.get_dtype()).itemsize,
        shared_noise=sets.shared_noise,
        task=(own and own.own_task) or sets.task,
        low_res_schedule=own.low_res_schedule if own else None,
        max_noise_level=own.max_noise_level if own else 0,
        low_res_channels=own.low_res_channels if own else 0,
        **layer_facts(sets.specs),
    )


def prediction_of(model: Any) -> Prediction:
    """What the network of ComfyUI's model predicts; ValueError for what core does not know."""
    sampling = model.model_sampling
    if isinstance(sampling, comfy.model_sampling.V_PREDICTION):
        return "v"
    if isinstance(sampling, comfy.model_sampling.X0):
        return "x0"
    if type(sampling).calculate_denoised is comfy.model_sampling.EPS.calculate_denoised:
        return "eps"
    raise ValueError(
        f"guidance_rescale needs a model that predicts noise, velocity or the image, got "
        f"{type(sampling).__bases__[-1].__name__}"
    )
