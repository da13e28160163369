"""Video upsampling in chunks sampled independently of each other, as LaVie's script does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from ..diffusion.samplers import Callback
from ..diffusion.sampling_plan import Plan
from ..diffusion.schedules import NoiseSchedule
from ..networks.autoencoder import check_video
from .chunk_store import Finished, Run, always_made
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


def with_stream(finished: Finished, generator: torch.Generator) -> Finished:
    """Chunks that are kept with the state in which they leave the generator of their noise."""
    if not isinstance(finished, Run):
        return finished

    def of_stream(make: Callable[[], Tensor], /, **parts: Any) -> Tensor:
        def both() -> dict[str, Tensor]:
            return {"chunk": make(), "state": generator.get_state()}

        found = finished.tensors(both, **parts, state=generator.get_state())
        generator.set_state(found["state"])
        return found["chunk"]

    return of_stream


def independent_chunks(
    denoiser_for: DenoiserFor,
    low_res: Frames,
    how: Plan,
    settings: Upsampling,
    noise: ChunkNoise,
    *,
    callback: Callable[[int], Callback | None] = lambda chunk: None,
    finished: Finished = always_made,
) -> Iterator[Tensor]:
    """Yield the latents of chunks that know nothing of each other; the last may be short.

    For each of them noise for the low-resolution frames is drawn, then noise to begin with.
    callback(chunk) is what the sampler reports to. finished: where chunks are kept; with the noise
    of a stream, it has to keep the stream's state as well (`with_stream`).
    """
    if isinstance(low_res, Tensor):
        check_video(low_res, 3)
    make_chunk = partial(_chunk, denoiser_for, how, settings, noise)
    stream, start = FrameStream(low_res), 0
    while stream.reaches(start + 1):
        stream.reaches(start + settings.chunk)
        stop = min(stream.stop, start + settings.chunk)
        frames = range(start, stop)
        low = stream.frames(start, stop).float()
        make = partial(make_chunk, low, frames, callback(start // settings.chunk))
        yield finished(make, frames=frames, low_res=low, sigmas=how.sigmas).to(low)
        start = stop
        stream.forget(start)


def _chunk(
    denoiser_for: DenoiserFor,
    how: Plan,
    settings: Upsampling,
    noise: ChunkNoise,
    low_res: Tensor,
    frames: range,
    callback: Callback | None,
) -> Tensor:
    """The latents of the chunk of these frames [b t 3 h w]."""
    level = settings.noise_level
    low = noised(settings.schedule, low_res, noise(tuple(low_res.shape)), level)
    b, t, _, h, w = low_res.shape
    condition = SegmentCondition(
        frames=frames, concatenated=low, noise_level=level, level="upsampling"
    )
    denoiser = denoiser_in_tiles(denoiser_for, condition, settings)
    first = noise((b, t, settings.latent_channels, h, w)).to(low_res)
    run = partial(
        how.run,
        denoiser,
        first,
        step_noise=lambda step, x: noise(tuple(x.shape)).to(x),
        callback=callback,
    )
    return in_scope(denoiser_for, planned_evaluations(condition, settings, how.sigmas), run)


def noised(schedule: NoiseSchedule, low_res: Tensor, noise: Tensor, level: int) -> Tensor:
    """Frames [b t c h w] with as much noise as step `level` of the schedule has."""
    return schedule.add_noise(low_res, noise.to(low_res), torch.full((len(low_res),), level))
