"""Video upsampling in chunks that are sampled independently of each other, as in LaVie's script."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from einops import rearrange
from torch import Tensor

from ..diffusion.denoiser import Denoiser
from ..diffusion.samplers import Callback
from ..diffusion.sampling_plan import Plan
from ..diffusion.schedules import NoiseSchedule
from ..networks.video_shape import check_video
from .finished import Finished, always_made
from .frame_stream import Frames, FrameStream
from .segment import DenoiserFor, SegmentCondition, in_scope
from .upsampling import Upsampling, denoiser_in_tiles, planned_evaluations


@dataclass(frozen=True)
class NoiseStream:
    """Noise from one generator, drawn in the original's axis order [b c t h w].

    stream(shape [b t c h w]) -> standard normal tensor of that shape.
    """

    generator: torch.Generator

    def __call__(self, shape: tuple[int, ...]) -> Tensor:
        b, t, c, h, w = shape
        device = self.generator.device
        drawn = torch.randn(b, c, t, h, w, generator=self.generator, device=device)
        return rearrange(drawn, "b c t h w -> b t c h w")

    @property
    def state(self) -> Tensor:
        """The state of the generator, which decides everything it will draw."""
        return self.generator.get_state()

    def copy(self) -> NoiseStream:
        """A stream that draws the same values from here on."""
        generator = torch.Generator(self.generator.device)
        generator.set_state(self.state)
        return NoiseStream(generator)


def independent_chunks(
    denoiser_for: DenoiserFor,
    low_res: Frames,
    plan: Plan,
    settings: Upsampling,
    noise: NoiseStream,
    *,
    callback: Callable[[int], Callback | None] = lambda chunk: None,
    finished: Finished = always_made,
) -> Iterator[Tensor]:
    """Yield the latents of chunks that are sampled independently; the last may be short.

    Each chunk draws noise for its low-resolution frames, then its initial noise. callback(chunk)
    returns the sampler's callback. finished: the store of chunks.
    """
    if isinstance(low_res, Tensor):
        check_video(low_res, 3)
    return _made(denoiser_for, FrameStream(low_res), plan, settings, noise, callback, finished)


def _made(
    denoiser_for: DenoiserFor,
    stream: FrameStream,
    plan: Plan,
    settings: Upsampling,
    noise: NoiseStream,
    callback: Callable[[int], Callback | None],
    finished: Finished,
) -> Iterator[Tensor]:
    def pending() -> Iterator[Callable[[], Tensor]]:
        start = 0
        while stream.read_until(start + 1):
            stream.read_until(start + settings.chunk)
            stop = min(stream.stop, start + settings.chunk)
            frames, low = range(start, stop), stream.frames(start, stop).float()
            own = noise.copy()
            make = partial(_chunk, denoiser_for, plan, settings, own, low, frames)
            make = partial(make, callback(start // settings.chunk))
            parts = dict(frames=frames, low_res=low, sigmas=plan.sigmas, noise=own.state)
            yield partial(_moved, finished.begin(make, **parts), low.device)
            # Advance the stream past this chunk, whether or not it has been made.
            _chunk(_nothing, plan, settings, noise, low, frames)
            start = stop
            stream.release(start)

    return (chunk() for chunk in finished.ahead(pending()))


def _moved(pending: Callable[[], Tensor], device: torch.device) -> Tensor:
    return pending().to(device)


def _nothing(condition: SegmentCondition) -> Denoiser:
    """A denoiser that takes no time, to draw what a sampler would draw."""
    return lambda x, sigma: x


def _chunk(
    denoiser_for: DenoiserFor,
    plan: Plan,
    settings: Upsampling,
    noise: NoiseStream,
    low_res: Tensor,
    frames: range,
    callback: Callback | None = None,
) -> Tensor:
    """The latents of the chunk of these frames, from low_res [b t 3 h w]."""
    level = settings.noise_level
    low = noised(settings.schedule, low_res, noise(tuple(low_res.shape)), level)
    b, t, _, h, w = low_res.shape
    condition = SegmentCondition(
        frames=frames, concatenated=low, noise_level=level, level="upsampling"
    )
    denoiser = denoiser_in_tiles(denoiser_for, condition, settings)
    first = noise((b, t, settings.latent_channels, h, w)).to(low_res)
    run = partial(
        plan.run,
        denoiser,
        first,
        step_noise=lambda step, x: noise(tuple(x.shape)).to(x),
        callback=callback,
    )
    return in_scope(denoiser_for, planned_evaluations(condition, settings, plan.sigmas), run)


def noised(schedule: NoiseSchedule, low_res: Tensor, noise: Tensor, level: int) -> Tensor:
    """Frames [b t c h w] noised to step `level` of the schedule."""
    return schedule.add_noise(low_res, noise.to(low_res), torch.full((len(low_res),), level))
