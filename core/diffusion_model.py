"""A denoising network together with everything that is needed to sample from it.

The network works in its own precision; everything outside it is float32. What a model may be told
besides the noisy latents (prompt, given frames, frame rate, a low-resolution video) is bound once
by :meth:`DiffusionModel.denoiser`, so that samplers see `denoiser(x, sigma)` and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .autoencoder import check_video
from .context_frames import ContextFrames, no_context
from .controlnet import Control, check_fits
from .denoiser import DENOISERS, Denoiser, Prediction, denoiser_for
from .schedules import SCHEDULES, NoiseSchedule
from .temporal_layers import Strength, TemporalLayers
from .video_unet import Injection, VideoUNet, combine


@dataclass(frozen=True, kw_only=True)
class DiffusionModel:
    """A denoising network with what is needed to sample from it."""

    network: VideoUNet  # VideoUNet(image_unet, []) is the image model, per frame
    schedule: NoiseSchedule
    prediction: Prediction
    latent_channels: int = 4
    factor: int  # pixels per latent position along one side
    latent_scale: float  # latents here = (raw - latent_shift) * latent_scale
    latent_shift: float = 0.0
    noise_schedule_for_low_res: NoiseSchedule | None = None  # upsamplers only
    max_noise_level: int = 0  # the highest step the low-resolution video was noised to
    image_schedule: NoiseSchedule | None = None  # the image model's, where layers changed it

    def __post_init__(self) -> None:
        if self.prediction not in DENOISERS:
            known = ", ".join(DENOISERS)
            raise ValueError(f"Unknown prediction {self.prediction!r}; known are {known}.")
        if self.low_res_channels < 0:
            raise ValueError(
                f"The network takes {self.network.config.in_channels} channels, fewer than the "
                f"{self.latent_channels} channels of the latents."
            )

    @property
    def low_res_channels(self) -> int:
        """Channels that are concatenated to the noisy latents: 3 for an upsampler, else 0."""
        return self.network.config.in_channels - self.latent_channels

    @property
    def takes_context(self) -> bool:
        """Whether any set of temporal layers was made to be told given frames."""
        return any(layers.context is not None for layers in self.network.sets)

    @property
    def shared_noise(self) -> float:
        """How much noise the frames of a clip share (alpha of `noise.mixed_noise`), as the temporal
        layers that act last were trained."""
        active = self.network.active
        return active[-1].layers.spec.trained.shared_noise if active else 0.0

    @property
    def dtype(self) -> torch.dtype:
        return self._weight.dtype

    @property
    def device(self) -> torch.device:
        return self._weight.device

    @property
    def _weight(self) -> Tensor:
        return self.network.image_unet.conv_in.weight

    # ----------------------------------------------------------------------------------------------
    # Temporal layers. The image U-Net is shared by all the models made here, and never changed.

    def with_layers(
        self,
        layers: TemporalLayers,
        strength: Strength = Strength(),  # noqa: B008 (frozen)
    ) -> DiffusionModel:
        """The model with one more set of temporal layers, acting after those it already has.

        Layers that were trained with betas of their own bring their schedule.
        """
        model = replace(self, network=combine(self.network, layers, strength))
        betas = layers.spec.host.betas
        if betas is None:
            return model
        schedule = SCHEDULES[betas.name](self.schedule.steps, start=betas.first, end=betas.last)
        return replace(
            model, schedule=schedule, image_schedule=self.image_schedule or self.schedule
        )

    def with_strength(self, strength: Strength) -> DiffusionModel:
        """The model with all its temporal layers used at `strength`."""
        sets = [Injection(layers, strength) for layers in self.network.sets]
        return replace(self, network=VideoUNet(self.network.image_unet, sets))

    def ejected(self) -> DiffusionModel:
        """The image model alone, frame by frame, with its own schedule."""
        return replace(
            self,
            network=VideoUNet(self.network.image_unet, []),
            schedule=self.image_schedule or self.schedule,
            image_schedule=None,
        )

    def with_controls(self, controls: Sequence[Control]) -> DiffusionModel:
        """The model with ControlNets beside its network; ValueError for those of another layout."""
        for one in controls:
            check_fits(one.network, self.network.config)
        network = VideoUNet(self.network.image_unet, self.network.injections, controls)
        return replace(self, network=network)

    # ----------------------------------------------------------------------------------------------
    # Latents.

    def scaled(self, raw: Tensor) -> Tensor:
        """Latents of about unit variance from those of the autoencoder."""
        return (raw - self.latent_shift) * self.latent_scale

    def unscaled(self, latents: Tensor) -> Tensor:
        """The inverse of `scaled`."""
        return latents / self.latent_scale + self.latent_shift

    # ----------------------------------------------------------------------------------------------
    # Sampling.

    def denoiser(
        self,
        text: Tensor | None,
        *,
        context: ContextFrames | None = None,
        rate: Tensor | int | None = None,
        times: Sequence[int] | None = None,
        low_res: Tensor | None = None,
        noise_level: Tensor | int | None = None,
        added: dict[str, Tensor] | None = None,
    ) -> Denoiser:
        """Bind the conditions: the result is `denoiser(x [b t c h w], sigma [] or [b])`.

        text: [b n d], or [b t n d] for a prompt per frame. context: given frames; None tells
        layers that know given frames that there are none. rate: frame-rate class, [b] or one
        number; models that are not told it ignore it. times: of the frames, where they are not
        0, 1, 2, ... low_res: [b t 3 h w] as large as the latents, concatenated behind them as it
        is. noise_level: the step `low_res` was noised to, [b].

        Raises ValueError for conditions that the model does not take, or takes and is not given.
        """
        self._check_conditions(context, low_res, noise_level)

        def network(x_vp: Tensor, timestep: Tensor) -> Tensor:
            check_video(x_vp, self.latent_channels)
            _check_fits(x_vp, context, low_res, timestep)
            there = dict(device=self.device, dtype=self.dtype)
            x = x_vp if low_res is None else torch.cat([x_vp, low_res.to(x_vp)], dim=2)
            answer = self.network(
                x.to(**there),
                timestep.to(self.device),
                None if text is None else text.to(**there),
                class_labels=_labels(noise_level, x),
                added=None if added is None else {k: v.to(**there) for k, v in added.items()},
                context_frames=self._context(context, x_vp),
                rate=_labels(rate, x),
                times=None if times is None else torch.as_tensor(times, device=self.device),
            )
            return answer[:, :, : self.latent_channels].to(x_vp)

        return denoiser_for(self.prediction, network, self.schedule)

    def _check_conditions(
        self,
        context: ContextFrames | None,
        low_res: Tensor | None,
        noise_level: Tensor | int | None,
    ) -> None:
        have = 0 if low_res is None else low_res.shape[2]
        if have != self.low_res_channels:
            raise ValueError(
                f"The network takes {self.low_res_channels} channels besides the "
                f"{self.latent_channels} of the latents, but {have} were given."
            )
        if context is not None and not self.takes_context:
            raise ValueError(
                f"{int(context.mask.sum())} frames were given, but none of the model's "
                f"{len(self.network.sets)} sets of temporal layers was made to be given frames."
            )
        highest = 0 if noise_level is None else int(torch.as_tensor(noise_level).max())
        if highest > self.max_noise_level:
            raise ValueError(
                f"The noise level {highest} of the low-resolution video must be at most "
                f"{self.max_noise_level}."
            )

    def _context(self, context: ContextFrames | None, x: Tensor) -> ContextFrames | None:
        """Layers that know given frames have always been told in training: so also of none."""
        if context is not None:
            return replace(
                context,
                latents=context.latents.to(self.device),
                mask=context.mask.to(self.device),
                noise_level=context.noise_level.to(self.device),
            )
        return no_context(x.shape, self.device) if self.takes_context else None


def _labels(value: Tensor | int | None, x: Tensor) -> Tensor | None:
    """Class numbers [b] from one number or one per video."""
    if value is None:
        return None
    return torch.as_tensor(value, device=x.device).long().expand(len(x))


def _check_fits(
    x: Tensor, context: ContextFrames | None, low_res: Tensor | None, timestep: Tensor
) -> None:
    """Raise ValueError unless the conditions belong to videos of x's size."""
    if context is not None and context.latents.shape != x.shape:
        raise ValueError(
            f"Given frames of shape {list(context.latents.shape)} do not fit "
            f"latents of shape {list(x.shape)}."
        )
    if low_res is not None and (low_res.shape[:2], low_res.shape[3:]) != (x.shape[:2], x.shape[3:]):
        raise ValueError(
            f"A low-resolution video of shape {list(low_res.shape)} does not fit "
            f"latents of shape {list(x.shape)}."
        )
    if timestep.ndim > 1:
        raise ValueError(
            f"The network takes one noise level per video, got shape {list(timestep.shape)}."
        )
