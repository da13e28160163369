"""Video super-resolution with LaVie: chunk by chunk like its script, or blended to avoid seams."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..diffusion.denoiser import to_vp
from ..diffusion.samplers import Callback
from ..networks.diffusion_model import DiffusionModel
from ..tasks.frame_stream import Frames
from ..tasks.independent_chunks import NoiseStream, independent_chunks, noised
from ..tasks.segment import Sampling
from ..tasks.upsampling import settings_of, upsample_whole, upsampler_denoiser_for
from .lavie_sampling import Prompts, plan


@dataclass(frozen=True, kw_only=True)
class Chunks:
    """How a video is divided: frames per chunk and, where chunks are blended, per overlap; side and
    overlap of tiles in latent positions, None = whole frames."""

    noise_level: int = 50
    chunk: int = 8
    overlap: int = 4
    tile: int | None = None
    tile_overlap: int = 8


def upsample_chunks(
    model: DiffusionModel,
    low_res: Frames,
    prompts: Prompts,
    noise: NoiseStream,
    *,
    steps: int = 50,
    chunks: Chunks = Chunks(),  # noqa: B008 (frozen)
    callback: Callback | None = None,
) -> Iterator[Tensor]:
    """Yield upsampled latents of `low_res` [b t 3 h w] in [-1, 1], chunk by chunk, as published;
    see `independent_chunks`."""
    _check_upsampling(model, chunks.noise_level, chunks.chunk)
    published = plan("ddim", steps)
    model = model.with_schedule(published.schedule)
    settings = replace(
        settings_of(model), noise_level=chunks.noise_level, chunk=chunks.chunk, overlap=0
    )
    guide = prompts.negative if prompts.scale > 1 else None
    denoiser_for = upsampler_denoiser_for(model, prompts.text, uncond=guide, scale=prompts.scale)
    return independent_chunks(
        denoiser_for, low_res, published, settings, noise, callback=lambda chunk: callback
    )


def noised_low_res(model: DiffusionModel, low_res: Tensor, noise: Tensor, level: int) -> Tensor:
    """The low-resolution video as the network sees it: noised, not clamped."""
    return noised(model.noise_schedule_for_low_res or model.schedule, low_res, noise, level)


def _check_upsampling(model: DiffusionModel, noise_level: int, chunk: int) -> None:
    if not 0 <= noise_level <= model.max_noise_level:
        raise ValueError(
            f"noise_level {noise_level} must lie in 0 .. {model.max_noise_level} for this model."
        )
    if chunk < 1:
        raise ValueError(f"A chunk must have at least 1 frame, got {chunk}.")


def upsample_blended(
    model: DiffusionModel,
    low_res: Tensor,
    prompts: Prompts,
    seed: int,
    *,
    steps: int = 50,
    chunks: Chunks = Chunks(),  # noqa: B008 (frozen)
    device: torch.device | str = "cpu",
) -> Tensor:
    """Upsampled latents of `low_res` [b t 3 h w] in [-1, 1], from chunks, optionally tiled, whose
    overlaps are averaged at every step to hide seams.

    The network sees one window at a time, however long the video is.
    """
    _check_upsampling(model, chunks.noise_level, chunks.chunk)
    published = plan("ddim", steps)
    model = model.with_schedule(published.schedule)
    sampling = Sampling(
        sampler=published.sampler, sigmas=published.sigmas, seed=seed, device=device
    )
    settings = replace(settings_of(model), **vars(chunks))
    guide = prompts.negative if prompts.scale > 1 else None
    denoiser_for = upsampler_denoiser_for(model, prompts.text, uncond=guide, scale=prompts.scale)
    return to_vp(upsample_whole(denoiser_for, low_res, sampling, settings), published.sigmas[-1])
