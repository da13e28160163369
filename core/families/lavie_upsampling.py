"""Video super-resolution as LaVie's own script does it, chunk by chunk, and without its seams."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from einops import rearrange
from torch import Tensor

from ..diffusion.denoiser import to_vp
from ..diffusion.samplers import Callback
from ..diffusion.schedules import NoiseSchedule
from ..networks.autoencoder import check_video
from ..networks.diffusion_model import DiffusionModel
from ..tasks.frame_stream import Frames, FrameStream
from ..tasks.segment import ClipCondition, DenoiserFor, Sampling, in_scope
from ..tasks.upsampling import (
    Upsampling,
    denoiser_in_tiles,
    planned_evaluations,
    settings_of,
    upsample_whole,
    upsampler_denoiser_for,
)
from .lavie_sampling import Plan, Prompts, plan

ChunkNoise = Callable[[tuple[int, ...]], Tensor]
"""noise(shape [b t c h w]) -> standard normal tensor; called twice for every chunk."""


def one_stream(generator: torch.Generator) -> ChunkNoise:
    """Noise from one generator, in the order of the original's tensors [b c t h w]."""

    def draw(shape: tuple[int, ...]) -> Tensor:
        b, t, c, h, w = shape
        drawn = torch.randn(b, c, t, h, w, generator=generator, device=generator.device)
        return rearrange(drawn, "b c t h w -> b t c h w")

    return draw


@dataclass(frozen=True, kw_only=True)
class Chunks:
    """How a video is cut up: frames of a chunk and, where chunks are blended, of their overlap;
    side and overlap of tiles in latent positions, None = whole frames."""

    noise_level: int = 50
    chunk: int = 8
    overlap: int = 4
    tile: int | None = None
    tile_overlap: int = 8


def upsample_chunks(
    model: DiffusionModel,
    low_res: Frames,
    prompts: Prompts,
    noise: ChunkNoise,
    *,
    steps: int = 50,
    how: Chunks = Chunks(),  # noqa: B008 (frozen)
    callback: Callback | None = None,
) -> Iterator[Tensor]:
    """Yield latents of `low_res` [b t 3 h w] in [-1, 1], chunk by chunk, as published: see
    `independent_chunks`."""
    _check_upsampling(model, how.noise_level, how.chunk)
    published = plan("ddim", steps)
    model = model.with_schedule(published.schedule)
    settings = replace(settings_of(model), noise_level=how.noise_level, chunk=how.chunk, overlap=0)
    guide = prompts.negative if prompts.scale > 1 else None
    denoiser_for = upsampler_denoiser_for(model, prompts.text, uncond=guide, scale=prompts.scale)
    return independent_chunks(
        denoiser_for, low_res, published, settings, noise, callback=lambda chunk: callback
    )


def independent_chunks(
    denoiser_for: DenoiserFor,
    low_res: Frames,
    how: Plan,
    settings: Upsampling,
    noise: ChunkNoise,
    *,
    callback: Callable[[int], Callback | None] = lambda chunk: None,
) -> Iterator[Tensor]:
    """Yield the latents of chunks that know nothing of each other; the last may be short.

    For each of them noise for the low-resolution frames is drawn, then noise to begin with.
    callback(chunk) is what the sampler reports to.
    """
    if isinstance(low_res, Tensor):
        check_video(low_res, 3)
    stream, start, level = FrameStream(low_res), 0, settings.noise_level
    while stream.reaches(start + 1):
        stream.reaches(start + settings.chunk)
        stop = min(stream.stop, start + settings.chunk)
        frames = stream.frames(start, stop).float()
        told = noised(settings.schedule, frames, noise(tuple(frames.shape)), level)
        b, t, _, h, w = frames.shape
        condition = ClipCondition(
            frames=range(start, stop), concatenated=told, noise_level=level, level="upsampling"
        )
        denoiser = denoiser_in_tiles(denoiser_for, condition, settings)
        first = noise((b, t, settings.latent_channels, h, w)).to(frames)
        run = partial(
            how.run,
            denoiser,
            first,
            step_noise=lambda step, x: noise(tuple(x.shape)).to(x),
            callback=callback(start // settings.chunk),
        )
        yield in_scope(denoiser_for, planned_evaluations(condition, settings, how.sigmas), run)
        start = stop
        stream.forget(start)


def noised_low_res(model: DiffusionModel, low_res: Tensor, noise: Tensor, level: int) -> Tensor:
    """The low-resolution video as the network sees it, not clamped."""
    return noised(model.noise_schedule_for_low_res or model.schedule, low_res, noise, level)


def noised(schedule: NoiseSchedule, low_res: Tensor, noise: Tensor, level: int) -> Tensor:
    """Frames [b t c h w] with as much noise as step `level` of the schedule has."""
    return schedule.add_noise(low_res, noise.to(low_res), torch.full((len(low_res),), level))


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
    how: Chunks = Chunks(),  # noqa: B008 (frozen)
    device: torch.device | str = "cpu",
) -> Tensor:
    """Latents of `low_res` [b t 3 h w] in [-1, 1] from chunks whose overlaps are averaged at every
    step, so that no border shows; also in tiles.

    The network sees one window at a time, however long the video is.
    """
    _check_upsampling(model, how.noise_level, how.chunk)
    published = plan("ddim", steps)
    model = model.with_schedule(published.schedule)
    sampling = Sampling(
        sampler=published.sampler, sigmas=published.sigmas, seed=seed, device=device
    )
    settings = replace(settings_of(model), **vars(how))
    guide = prompts.negative if prompts.scale > 1 else None
    denoiser_for = upsampler_denoiser_for(model, prompts.text, uncond=guide, scale=prompts.scale)
    return to_vp(upsample_whole(denoiser_for, low_res, sampling, settings), published.sigmas[-1])


# --------------------------------------------------------------------------------------------------
# Bytes.


def rounded_bytes(video: Tensor) -> Tensor:
    """Pixels in [-1, 1] -> uint8 as the base and interpolation scripts write them."""
    return ((video / 2 + 0.5) * 255 + 0.5).clamp(0, 255).to(torch.uint8)


def truncated_bytes(video: Tensor) -> Tensor:
    """Pixels in [-1, 1] -> uint8 as the super-resolution script writes them, not rounded."""
    return ((video / 2 + 0.5).clamp(0, 1) * 255).to(torch.uint8)
