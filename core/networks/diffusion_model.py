"""A denoising network together with everything that is needed to sample from it.

The network works in its own precision; everything outside it is float32. Conditions are bound once
by :meth:`DiffusionModel.denoiser`, so that samplers see only `denoiser(x, sigma)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..diffusion.curves import current_step
from ..diffusion.denoiser import Denoiser, Prediction
from ..diffusion.preconditioning import (
    DiscretePreconditioning,
    Preconditioning,
    discrete,
    preconditioned,
)
from ..diffusion.schedules import NoiseRange, NoiseSchedule
from .conditions import SIZES, Conditions, Network
from .controlnet import Control
from .injected_sets import InjectedSets, Injection
from .latent_scale import LatentScale
from .temporal_layers import FULL_STRENGTH, Strength, TemporalLayers
from .temporal_layers_spec import TASKS
from .video_shape import check_video
from .video_unet import VideoUNet, combine


@dataclass(frozen=True, kw_only=True)
class DiffusionModel:
    """A denoising network with what is needed to sample from it."""

    network: Network  # VideoUNet(image_unet, []) is the image model, per frame
    preconditioning: Preconditioning
    latent_channels: int = 4
    factor: int  # pixels per latent position along one side
    latent_scale: float  # latents here = (raw - latent_shift) * latent_scale
    latent_shift: float = 0.0
    temporal_factor: int = 1  # frames per latent frame
    family: str = ""  # a published model with settings of its own, such as "lavie base"
    own_task: str = ""  # of the network itself, "" = text to image
    noise_schedule_for_low_res: NoiseSchedule | None = None  # upsamplers only
    max_noise_level: int = 0  # highest step to which low-resolution frames may be noised
    image_schedule: NoiseSchedule | None = None  # of the image model, if layers replaced it

    def __post_init__(self) -> None:
        if self.own_task and self.own_task not in TASKS:
            raise ValueError(f"task {self.own_task!r} must be one of {', '.join(TASKS)}")
        if self.latent_channels != self.network.spec.latent_channels:
            raise ValueError(
                f"The network is one of {self.network.spec.latent_channels} latent channels, not "
                f"of {self.latent_channels}."
            )

    @property
    def task(self) -> str:
        """What the model is for, one of TASKS: the network's own task, else that of the last
        injected layers that declare one; "" if neither does."""
        return self.own_task or self.sets.task

    @property
    def has_time_axis(self) -> bool:
        """Whether its latents are a video instead of a batch of images."""
        return not isinstance(self.network, VideoUNet)

    @property
    def prediction(self) -> Prediction:
        return self.preconditioning.prediction

    @property
    def schedule(self) -> NoiseSchedule:
        """The discrete noise schedule; ValueError for a model with continuous noise levels."""
        if not isinstance(self.preconditioning, DiscretePreconditioning):
            low, high = self.preconditioning.sigma_min, self.preconditioning.sigma_max
            raise ValueError(
                f"the model's noise levels are continuous from {low} to {high}, but a discrete "
                "schedule is needed here"
            )
        return self.preconditioning.schedule

    @property
    def levels(self) -> NoiseSchedule | NoiseRange:
        """The noise levels: a discrete schedule, or a continuous range."""
        known = self.preconditioning
        if isinstance(known, DiscretePreconditioning):
            return known.schedule
        return NoiseRange(sigma_min=known.sigma_min, sigma_max=known.sigma_max)

    def with_schedule(self, schedule: NoiseSchedule) -> DiffusionModel:
        """The same network with another noise schedule."""
        return replace(self, preconditioning=discrete(self.prediction, schedule))

    @property
    def sets(self) -> InjectedSets:
        """The sets of temporal layers in the network; empty unless it is a `VideoUNet`."""
        network = self.network
        return network.injections if isinstance(network, VideoUNet) else InjectedSets([])

    @property
    def low_res_channels(self) -> int:
        """Channels concatenated to the noisy latents, such as an upsampler's 3."""
        return self.network.spec.concatenated

    @property
    def takes_context(self) -> bool:
        """Whether the network takes context frames."""
        return self.network.spec.context > 0

    @property
    def dtype(self) -> torch.dtype:
        return self.network.dtype

    @property
    def device(self) -> torch.device:
        return self.network.device

    # ----------------------------------------------------------------------------------------------
    # Temporal layers. All these models share the image U-Net, which is never modified.

    def with_layers(
        self, layers: TemporalLayers, strength: Strength = FULL_STRENGTH
    ) -> DiffusionModel:
        """The model with one more set of temporal layers, which act after those it already has.

        Active layers that were trained with their own betas bring their noise schedule.
        """
        return self._with_network(combine(self.network, layers, strength))

    def with_strength(self, strength: Strength) -> DiffusionModel:
        """The model with all its temporal layers at this strength."""
        return self._with_network(self.network.with_strength(strength))

    def with_sets(self, sets: Sequence[Injection]) -> DiffusionModel:
        """The model with these sets of temporal layers instead of its own."""
        return self._with_network(self.network.with_sets(sets))

    def ejected(self) -> DiffusionModel:
        """The image model alone, frame by frame, with its own schedule."""
        return self._with_network(self.network.with_sets([]))

    def _with_network(self, network: VideoUNet) -> DiffusionModel:
        """The model with another network, and the noise schedule that its layers bring."""
        if self.image_schedule is None and network.injections.betas is None:
            return replace(self, network=network)
        own = self.image_schedule or self.schedule
        schedule = network.injections.schedule(own)
        model = replace(self, network=network, image_schedule=None if schedule is own else own)
        return model.with_schedule(schedule)

    def with_controls(self, controls: Sequence[Control]) -> DiffusionModel:
        """The model with ControlNets; ValueError for those of another layout."""
        return replace(self, network=self.network.with_controls(controls))

    # ----------------------------------------------------------------------------------------------
    # Latents.

    @property
    def latents(self) -> LatentScale:
        return LatentScale(self.latent_scale, self.latent_shift)

    def scaled(self, raw: Tensor) -> Tensor:
        """Latents of about unit variance from those of the autoencoder."""
        return self.latents.scaled(raw)

    def unscaled(self, latents: Tensor) -> Tensor:
        """Inverse of `scaled`."""
        return self.latents.unscaled(latents)

    # ----------------------------------------------------------------------------------------------
    # Sampling.

    def denoiser(self, conditions: Conditions) -> Denoiser:
        """Bind the conditions: returns `denoiser(x [b t c h w], sigma [], [b] or [b t])`.

        Raises ValueError for conditions that the network does not take, or requires and lacks.
        """
        self.network.spec.check(conditions)
        conditions.check_noise_level(self.max_noise_level)
        given = conditions.to(self.device, self.dtype)

        def network(x_in: Tensor, c_noise: Tensor) -> Tensor:
            check_video(x_in, self.latent_channels)
            conditions.check_fits(x_in)
            x = x_in.to(device=self.device, dtype=self.dtype)
            sized = replace(self._sized(given, x), step=current_step.get())
            bound = sized.for_videos(len(x))
            return self.network(x, c_noise.to(self.device), bound).to(x_in)

        return preconditioned(network, self.preconditioning)

    def _sized(self, conditions: Conditions, x: Tensor) -> Conditions:
        """Add SDXL's sizes for an uncropped image of this size, if they are read and not given."""
        if SIZES not in self.network.spec.ids or SIZES in conditions.ids:
            return conditions
        height, width = (self.factor * side for side in x.shape[-2:])
        sizes = torch.tensor([[height, width, 0, 0, height, width]], device=x.device)
        return replace(conditions, ids={**conditions.ids, SIZES: sizes.float()})
