"""The facts about a MODEL that stages need, computed alike for both hosts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ....core.families import family_for
from ..interface import ModelFacts
from .layer_facts import layer_facts

if TYPE_CHECKING:
    from torch import device as Device

    from ....core.diffusion.schedules import NoiseRange, NoiseSchedule
    from ....core.networks.conditions import NetworkSpec
    from ....core.networks.diffusion_model import DiffusionModel
    from ....core.networks.injected_sets import InjectedSets


@dataclass(frozen=True, kw_only=True)
class TrainedNetwork:
    """What a network itself was trained for, apart from the temporal layers in it.

    task: one of core's TASKS, "" for text to image. low_res_schedule, max_noise_level: of an
    upsampler's low-resolution frames. family: published family, if the layers name none.
    """

    task: str = ""
    low_res_schedule: NoiseSchedule | None = None
    max_noise_level: int = 0
    temporal_factor: int = 1
    family: str = ""


def trained_network(model: DiffusionModel) -> TrainedNetwork:
    return TrainedNetwork(
        task=model.own_task,
        low_res_schedule=model.noise_schedule_for_low_res,
        max_noise_level=model.max_noise_level,
        temporal_factor=model.temporal_factor,
        family=model.family or family_for(model.own_task),
    )


def model_facts(
    network: NetworkSpec, sets: InjectedSets, trained: TrainedNetwork, *,
    factor: int, schedule: NoiseSchedule | NoiseRange, device: Device, precision: int,
) -> ModelFacts:  # fmt: skip
    """The facts about a MODEL of this network with these sets in it.

    factor: pixels per latent position along each axis; precision: bytes per number.
    """
    known, begins_with_image = layer_facts(sets), network.begins_with_image
    if network.made_for_video:
        known = replace(known, present=True, takes_context=network.context > 0)
    if begins_with_image:
        known = replace(known, task=trained.task, begins_with_image=True)
    families = (spec.trained.family for spec in sets.specs if spec.trained.family)
    return ModelFacts(
        latent_channels=network.latent_channels,
        factor=factor,
        temporal_factor=trained.temporal_factor,
        schedule=schedule,
        device=device,
        channels=network.width,
        precision=precision,
        takes_context=network.context > 0,
        in_place=network.in_place,
        # For a network that animates a start image, the image is the prompt.
        reads_text=network.text is not None or begins_with_image,
        reads_views=network.views,
        layers=known,
        trained_frames=known.trained_frames or network.frames or 1,
        shared_noise=sets.shared_noise,
        task=trained.task or sets.task,
        low_res_schedule=trained.low_res_schedule,
        max_noise_level=trained.max_noise_level,
        low_res_channels=0 if begins_with_image else network.concatenated,
        family=next(families, "") or trained.family,
        begins_with_image=begins_with_image,
    )
