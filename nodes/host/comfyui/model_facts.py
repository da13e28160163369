"""What stages must know about a ComfyUI MODEL."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import comfy.model_sampling

from ....core.diffusion.denoiser import Prediction
from ....core.families import family_for
from ....core.families.known_models import IMAGE_MODELS
from ....core.networks.conditions import NetworkSpec
from ..interface import ModelFacts
from ..shared.model_facts import TrainedNetwork, model_facts
from .free_init import free_init_of
from .layers import core_sets, sets_of
from .model import OwnNetwork, image_spec, levels_of, moves_start_image
from .reference import reference_of
from .video_network import VideoNetworkModel

IMAGE_TO_VIDEO = "image to video"


def facts_of(model: Any) -> ModelFacts:
    """The facts about a MODEL; ValueError for others' video and audio models."""
    latents = model.model.latent_format
    if isinstance(model.model, VideoNetworkModel):
        return _video_facts(model)
    if latents.latent_dimensions != 2:
        raise ValueError(
            f"the model is one of videos or audio already (its latents have "
            f"{latents.latent_dimensions} dimensions, not 2): this node takes {IMAGE_MODELS}"
        )
    found = model_facts(
        network_spec(model),
        core_sets(sets_of(model)),
        trained_network_of(model),
        factor=getattr(latents, "spacial_downscale_ratio", 8),
        schedule=levels_of(model),
        device=model.load_device,
        precision=(model.model.manual_cast_dtype or model.model.get_dtype()).itemsize,
    )
    return replace(found, free_init=free_init_of(model), reference=reference_of(model))


def _video_facts(model: Any) -> ModelFacts:
    """The facts about a network made for video."""
    return model_facts(
        network_spec(model),
        core_sets(()),
        trained_network_of(model),
        factor=model.model.latent_format.spacial_downscale_ratio,
        schedule=levels_of(model),
        device=model.load_device,
        precision=(model.model.manual_cast_dtype or model.model.get_dtype()).itemsize,
    )


def network_spec(model: Any) -> NetworkSpec:
    """The spec of a MODEL's network with the temporal layers in it."""
    if isinstance(model.model, VideoNetworkModel):
        return model.model.image_spec
    return core_sets(sets_of(model)).added_to(image_spec(model))


def trained_network_of(model: Any) -> TrainedNetwork:
    """What the network itself was trained for; unknown models count as image models."""
    if isinstance(model.model, OwnNetwork | VideoNetworkModel):
        return model.model.trained
    if moves_start_image(model.model):
        return TrainedNetwork(task=IMAGE_TO_VIDEO, family=family_for(IMAGE_TO_VIDEO))
    return TrainedNetwork()


def prediction_of(model: Any) -> Prediction:
    """What the network of ComfyUI's model predicts; ValueError for predictions unknown to core."""
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
