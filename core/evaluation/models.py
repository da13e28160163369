"""The embedded models for evaluation: loaded on first use, called with prompts and pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from ..diffusion.denoiser import Denoiser
from ..diffusion.guidance import batched
from ..diffusion.samplers import SAMPLERS
from ..diffusion.schedules import get_sigmas
from ..families.embedded import included
from ..families.embedded import loading as embedded
from ..networks.autoencoder import TemporalDecoder, encode
from ..networks.diffusion_model import DiffusionModel
from ..tasks.decoding import decode
from ..tasks.interpolation import Interpolation, interpolate
from ..tasks.long_video import Continuation, prediction, single_segment
from ..tasks.segment import DenoiserFor, Sampling, SegmentCondition, conditions_of
from ..tasks.sparse_first import SparseFirst, last_step, sparse_first
from ..tasks.upsampling import Prompt, settings_of, upsample
from ..text.encoders import box_tensors, encode_text, tokenize


@dataclass(frozen=True, kw_only=True)
class Sparse:
    """Sparse-first sampling: the number of sparse frames, and the settings for those in between."""

    frames: int
    fill_steps: int
    fill_denoise: float  # below 1, frames in between start from blends of the sparse frames


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a sampling node, with the defaults of the shipped workflows."""

    steps: int
    cfg: float = 1.0
    sampler: str = "dpmpp_2m"
    schedule: str = "trailing"
    denoise: float = 1.0  # below 1, interpolated frames start from blends of the given ones
    sparse: Sparse | None = None


PLAIN_STEPS, PLAIN_STEPS_BETWEEN = 25, 8
"""For videos from noise, and for interpolation, which needs fewer."""


def joint_settings(settings: Settings) -> Settings:
    """The settings for joint layers of all tasks: all frames together, from pure noise."""
    if settings.sparse is None and settings.denoise == 1:
        return settings
    steps = PLAIN_STEPS if settings.denoise == 1 else PLAIN_STEPS_BETWEEN
    return replace(settings, steps=steps, sparse=None, denoise=1.0)


class Models:
    """The embedded family, each part loaded on first use."""

    def __init__(self, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32):
        self.placement = dict(device=device, dtype=dtype)
        self.device = device
        self.joint = included.is_joint()

    @cached_property
    def image(self) -> embedded.ImageModel:
        return embedded.load_image_model(**self.placement)

    @cached_property
    def upsampler(self) -> DiffusionModel:
        return embedded.load_upsampler(**self.placement).model

    @cached_property
    def temporal_decoder(self) -> TemporalDecoder:
        return embedded.load_temporal_decoder(**self.placement)

    @cached_property
    def text_to_video(self) -> DiffusionModel:
        return self._video_model("text_to_video")

    @cached_property
    def prediction(self) -> DiffusionModel:
        return self._video_model("prediction")

    @cached_property
    def interpolation(self) -> DiffusionModel:
        return self._video_model("interpolation")

    def _video_model(self, name: str) -> DiffusionModel:
        return self.image.model.with_layers(embedded.load_temporal_layers(name, **self.placement))

    # Conditions.

    @torch.no_grad()
    def text(self, prompts: Sequence[str]) -> Tensor:
        """Encoded prompts [b n d]."""
        ids = tokenize(self.image.tokenizer, prompts, self.image.text_length)
        return encode_text(self.image.text_encoder, ids.to(self.device))

    @torch.no_grad()
    def text_and_boxes(self, prompts: Sequence[str], boxes: Sequence[Sequence]) -> Tensor:
        """Encoded prompts with the tokens of their bounding boxes, [b n d]."""
        encoder = self.image.box_encoder
        if encoder is None:
            raise ValueError("The image model has no encoder of bounding boxes.")
        tensors = box_tensors(boxes, self.image.tokenizer, encoder.slots)
        tokens = encoder(*(part.to(self.device) for part in tensors))
        text = self.text(prompts)
        return torch.cat([text, tokens.to(text)], dim=1)

    def sampling(self, model: DiffusionModel, settings: Settings, seed: int) -> Sampling:
        sigmas = get_sigmas(
            settings.schedule, model.schedule, settings.steps, strength=settings.denoise
        )
        return Sampling(
            SAMPLERS[settings.sampler], sigmas, seed, self.device, model.sets.shared_noise
        )

    def denoiser_for(self, model: DiffusionModel, text: Tensor, settings: Settings) -> DenoiserFor:
        """The model with a prompt per video [b n d]; guidance batches the empty prompt with it."""
        ids = model.network.spec.ids
        if settings.cfg == 1:
            return lambda c: model.denoiser(conditions_of(c, ids, text))
        empty = self.text([""]).expand(len(text), -1, -1)
        if empty.shape[1] < text.shape[1]:  # with boxes: add as many empty ones
            empty = self.text_and_boxes([""], [[]]).expand(len(text), -1, -1)
        both = torch.cat([text, empty])

        def bind(condition: SegmentCondition) -> Denoiser:
            context = None if condition.context is None else condition.context.repeated(2)
            twice = replace(condition, context=context)
            return batched(model.denoiser(conditions_of(twice, ids, both)), settings.cfg)

        return bind

    # Tasks.

    def latent_size(self, videos: int, height: int, width: int) -> tuple[int, int, int, int]:
        model = self.image.model
        return videos, model.latent_channels, height // model.factor, width // model.factor

    @torch.no_grad()
    def videos(
        self,
        model: DiffusionModel,
        text: Tensor,
        settings: Settings,
        seed: int,
        *,
        frames: int,
        side: int,
    ) -> Tensor:
        """Sample latents [b frames c h w] for encoded prompts [b n d]; seeds seed, seed + 1, ..."""
        settings = joint_settings(settings) if self.joint else settings
        size = self.latent_size(len(text), side, side)
        denoiser_for = self.denoiser_for(model, text, settings)
        sampling = self.sampling(model, settings, seed)
        if settings.sparse is None:
            made = single_segment(denoiser_for, size, sampling, frames)
        else:
            first = self._sparse_first(model, text, settings, seed)
            made = sparse_first(denoiser_for, size, sampling, frames, first)
        return torch.cat(list(made), dim=1)

    def _sparse_first(
        self, model: DiffusionModel, text: Tensor, settings: Settings, seed: int
    ) -> SparseFirst:
        fill = replace(
            settings,
            steps=settings.sparse.fill_steps,
            denoise=settings.sparse.fill_denoise,
            cfg=1.0,
        )
        return SparseFirst(
            count=settings.sparse.frames,
            denoiser_for=self.denoiser_for(model, text, fill),
            sampling=self.sampling(model, fill, seed),
            from_blend=fill.denoise < 1,
            together=last_step(model.schedule),
        )

    @torch.no_grad()
    def continued(
        self,
        given: Tensor,
        text: Tensor,
        settings: Settings,
        seed: int,
        *,
        frames: int,
        context: int = 1,
    ) -> Tensor:
        """Continue the latents `given` [b n c h w] to [b frames c h w] by prediction."""
        made = prediction(
            self.denoiser_for(self.prediction, text, settings),
            (len(given), *given.shape[2:]),
            self.sampling(self.prediction, settings, seed),
            frames,
            settings=Continuation(context=context, given=given),
        )
        return torch.cat(list(made), dim=1)

    @torch.no_grad()
    def predicted(
        self, text: Tensor, settings: Settings, seed: int, *, frames: int, side: int, context: int
    ) -> Tensor:
        """Sample latents [b frames c h w] by prediction from the last `context` frames of each
        segment."""
        made = prediction(
            self.denoiser_for(self.prediction, text, settings),
            self.latent_size(len(text), side, side),
            self.sampling(self.prediction, settings, seed),
            frames,
            settings=Continuation(context=context),
        )
        return torch.cat(list(made), dim=1)

    @torch.no_grad()
    def interpolated(
        self, keys: Tensor, text: Tensor, settings: Settings, seed: int, *, passes: int
    ) -> Tensor:
        """Interpolate latents: in each of `passes`, K frames [b K c h w] become 4 (K - 1) + 1."""
        settings = joint_settings(settings) if self.joint else settings
        denoiser_for = self.denoiser_for(self.interpolation, text, settings)
        made = interpolate(
            denoiser_for,
            keys,
            self.sampling(self.interpolation, settings, seed),
            settings=Interpolation(passes=passes, from_blend=settings.denoise < 1),
        )
        return torch.cat(list(made), dim=1)

    @torch.no_grad()
    def upsampled(
        self,
        low_res: Tensor,
        settings: Settings,
        seed: int,
        *,
        noise_level: int,
        per_frame: bool = False,
    ) -> Tensor:
        """Upsampled latents [b t c h w] of low_res [b t 3 h w], without a prompt.

        per_frame: without temporal layers, with independent noise for each frame.
        """
        model = self.upsampler.ejected() if per_frame else self.upsampler
        text = self.text([""]).expand(len(low_res), -1, -1)
        sampling = self.sampling(model, settings, seed)
        chosen = replace(settings_of(model), noise_level=noise_level, same_noise=not per_frame)
        made = upsample(model, low_res, Prompt(text), sampling, settings=chosen)
        return torch.cat(list(made), dim=1)

    # Pixels.

    @torch.no_grad()
    def encoded(self, video: Tensor) -> Tensor:
        """Encode pixels [b t 3 h w] to latents [b t c h/f w/f]."""
        return encode(self.image.autoencoder, video.to(**self.placement)).float()

    def decoded(self, latents: Tensor, *, per_frame: bool = False) -> Tensor:
        """Decode to pixels [b t 3 h w] in [-1, 1] on the CPU; per_frame: by the image decoder."""
        decoder = self.image.autoencoder if per_frame else self.temporal_decoder
        video = torch.cat(list(decode(decoder, latents)), dim=1)
        return video.clamp(-1, 1).float().cpu()
