"""Video upsampling in chunks sampled independently of each other, as LaVie's script does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from einops import rearrange
from torch import Tensor

from ..diffusion.samplers import Callback
from ..diffusion.sampling_plan import Plan
from ..diffusion.schedules import NoiseSchedule
from ..networks.autoencoder import check_video
from .frame_stream import Frames, FrameStream
from .segment import DenoiserFor, SegmentCondition, in_scope
from .upsampling import Upsampling, denoiser_in_tiles, planned_evaluations

ChunkNoise = Callable[[tuple[int, ...]], Tensor]
"""noise(shape [b t c h w]) -> standard normal tensor; called twice for every chunk."""


def one_stream(generator: torch.Generator) -> ChunkNoise:
    """Noise from one generator, in the order of the original's tensors [b c t h w]."""

    def draw(shape: tuple[int, ...]) -> Tensor:
        b, t, c, h, w = shape
        drawn = torch.randn(b, c, t, h, w, generator=generator, device=generator.device)
        return rearrange(drawn, "b c t h w -> b t c h w")

    return draw


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
        low = noised(settings.schedule, frames, noise(tuple(frames.shape)), level)
        b, t, _, h, w = frames.shape
        condition = SegmentCondition(
            frames=range(start, stop), concatenated=low, noise_level=level, level="upsampling"
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


def noised(schedule: NoiseSchedule, low_res: Tensor, noise: Tensor, level: int) -> Tensor:
    """Frames [b t c h w] with as much noise as step `level` of the schedule has."""
    return schedule.add_noise(low_res, noise.to(low_res), torch.full((len(low_res),), level))
