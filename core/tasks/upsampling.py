"""The x4 video upsampler, in latent space (Video LDM, section 3.4).

A chunk of latents is denoised with the low-resolution frames as extra channels; they are noised to
a level that the network is conditioned on. Chunks follow each other in time: the finished frames of
the overlap are held at every step, so that borders are continued rather than blended, and only one
chunk is in memory. Large frames are denoised in tiles whose overlaps are averaged at every step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..diffusion.denoiser import Denoiser, broadcast, to_ve
from ..diffusion.guidance import guided
from ..diffusion.noise import NoiseSource
from ..diffusion.samplers import Callback
from ..diffusion.schedules import NoiseSchedule
from ..networks.diffusion_model import DiffusionModel
from ..networks.video_shape import check_video
from .content import name_of
from .finished import Finished, always_made, step_by_step
from .frame_stream import Frames, FrameStream, check_finite
from .segment import (
    DenoiserFor,
    Evaluations,
    ProgressCallback,
    Sampling,
    ScopedDenoisers,
    SegmentCondition,
    conditions_of,
    in_scope,
    reporter,
)
from .windows import Window, fuse_weights, sliding_windows, tiled, tiles, windowed


@dataclass(frozen=True, kw_only=True)
class Upsampling:
    """Settings of upsampling.

    schedule: noises the low-resolution video to step `noise_level`; the higher, the more the model
    invents. same_noise: start every frame from the same noise, so that detail holds still where the
    video does (the mixed noise of Ge et al. 2023 with all of it shared). chunk, overlap: frames of
    a chunk, and how many of them are finished already. tile, tile_overlap: in latent positions,
    which are low-resolution pixels; None = whole frames.
    """

    schedule: NoiseSchedule
    latent_channels: int = 4
    noise_level: int = 20
    same_noise: bool = False
    chunk: int = 16
    overlap: int = 4
    tile: int | None = None
    tile_overlap: int = 8

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < self.chunk:
            raise ValueError(
                f"overlap {self.overlap} must be smaller than chunk {self.chunk} and not below 0."
            )
        if self.tile is not None and not 0 <= self.tile_overlap < self.tile:
            raise ValueError(
                f"The overlap {self.tile_overlap} must be smaller than the tile {self.tile}."
            )
        if not 0 <= self.noise_level < self.schedule.steps:
            raise ValueError(
                f"The noise level {self.noise_level} must lie in 0 .. {self.schedule.steps - 1}."
            )


def settings_of(model: DiffusionModel) -> Upsampling:
    """The settings that follow from a model, and defaults for the others."""
    return Upsampling(
        schedule=model.noise_schedule_for_low_res or model.schedule,
        latent_channels=model.latent_channels,
    )


@dataclass(frozen=True)
class Prompt:
    """Text [b n d] of the whole video; with `uncond`, classifier-free guidance of this scale."""

    text: Tensor | None
    uncond: Tensor | None = None
    scale: float = 1.0


def upsample(
    model: DiffusionModel,
    low_res: Frames,
    prompt: Prompt,
    sampling: Sampling,
    *,
    settings: Upsampling | None = None,
    done: Tensor | None = None,
    callback: ProgressCallback | None = None,
) -> Iterator[Tensor]:
    """Yield latents [b t c h w] of the upsampled `low_res` [b t 3 h w] in [-1, 1], chunk by chunk.

    settings: None = `settings_of(model)`. `upsample_continued` does the same for any denoiser.
    """
    settings = settings or settings_of(model)
    if settings.noise_level > model.max_noise_level:
        raise ValueError(
            f"noise_level {settings.noise_level} is above the {model.max_noise_level} that the "
            f"model knows."
        )
    denoiser_for = upsampler_denoiser_for(
        model, prompt.text, uncond=prompt.uncond, scale=prompt.scale
    )
    return upsample_continued(
        denoiser_for, low_res, sampling, settings, done=done, callback=callback
    )


def upsampler_denoiser_for(
    model: DiffusionModel,
    text: Tensor | None,
    *,
    uncond: Tensor | None = None,
    scale: float = 1.0,
) -> DenoiserFor:
    """The model with one prompt for the whole video, guided if `uncond` is given."""

    def bind(condition: SegmentCondition) -> Denoiser:
        ids = model.network.spec.ids
        cond = model.denoiser(conditions_of(condition, ids, text))
        if uncond is None:
            return cond
        return guided(cond, model.denoiser(conditions_of(condition, ids, uncond)), scale)

    return bind


def upsample_continued(
    denoiser_for: DenoiserFor,
    low_res: Frames,
    sampling: Sampling,
    settings: Upsampling,
    *,
    total: int = 0,
    done: Tensor | None = None,
    callback: ProgressCallback | None = None,
) -> Iterator[Tensor]:
    """Yield latents [b t c h w], of each chunk those that the one before did not yield.

    The last chunk is as long as the others if the video is, and then overlaps more with the one
    before. total: number of frames where they come in chunks, for progress only; 0 = unknown. done:
    what an interrupted run with the same settings yielded; only the rest is yielded.
    """
    if isinstance(low_res, Tensor):
        check_video(low_res, 3)
        total = low_res.shape[1]
    step = settings.chunk - settings.overlap
    chunks = 0 if total == 0 else max(0, -(-(total - settings.chunk) // step)) + 1
    make = _Chunk(denoiser_for, sampling, settings)
    return _upsampled_chunks(make, FrameStream(low_res), done, chunks, callback)


def _upsampled_chunks(
    make: _Chunk,
    stream: FrameStream,
    done: Tensor | None,
    chunks: int,
    callback: ProgressCallback | None,
) -> Iterator[Tensor]:
    """Read low-resolution frames and yield latents, holding at most one chunk of each."""
    chunk, step = make.settings.chunk, make.settings.chunk - make.settings.overlap
    past = None if done is None else done[:, -chunk:].clone()
    stop = 0 if done is None else done.shape[1]
    stream.release(stop - chunk)
    if stop and (stop < chunk or (stop - chunk) % step) and stream.read_until(stop + 1):
        raise ValueError(
            f"{stop} finished frames cannot be continued: chunks end after {chunk} frames and "
            f"every {step} more."
        )
    while stream.read_until(stop + 1):
        count = 0 if stop == 0 else (stop - chunk) // step + 1
        stream.read_until(stop + (step if stop else chunk))
        last = min(stream.stop, stop + (step if stop else chunk))
        start = max(0, last - chunk)
        known = None if stop == start else past[:, -(stop - start) :]
        report = reporter(callback, "upsampling", count, chunks)
        latents = make.sample(stream.frames(start, last), start, known, report)
        past = latents[:, -chunk:]
        yield latents[:, stop - start :].clone()
        stop = last
        stream.release(stop - chunk)


@dataclass(frozen=True)
class _Chunk:
    """in_steps: whether an unfinished chunk is stored step by step, which pays for long ones."""

    denoiser_for: DenoiserFor
    sampling: Sampling
    settings: Upsampling
    in_steps: bool = False

    def sample(
        self, low_res: Tensor, start: int, known: Tensor | None, callback: Callback | None
    ) -> Tensor:
        """Latents [b t c h w] for low_res [b t 3 h w], whose first frame has the number `start`.

        known: [b n c h w] finished latents of the first n frames, which are returned unchanged.
        """
        check_video(low_res, 3)
        frames = range(start, start + low_res.shape[1])
        sampling, shared = self.sampling, 0 if known is None else known.shape[1]

        def make(step: Finished) -> Tensor:
            return self._sampled(low_res, frames, known, callback, step)[:, shared:].clone()

        parts = dict(
            frames=frames, low_res=low_res, known=known, settings=self.settings,
            noise=self._source(len(low_res), frames), sigmas=sampling.sigmas,
            sampler=name_of(sampling.sampler),
        )  # fmt: skip
        if self.in_steps:
            made = sampling.finished.in_steps(make, **parts)
        else:
            made = sampling.finished(lambda: make(always_made), **parts)
        made = made.to(sampling.device)
        return made if known is None else torch.cat([known.to(made), made], dim=1)

    def _sampled(
        self, low_res: Tensor, frames: range, known: Tensor | None, callback: Callback | None,
        step: Finished,
    ) -> Tensor:  # fmt: skip
        """All frames; the known ones only as they came out beside the others."""
        low_res = low_res.to(self.sampling.device, torch.float32)
        b, t, _, h, w = low_res.shape
        source = self._source(b, frames)
        noise = source.initial(low_res.new_empty(b, t, self.settings.latent_channels, h, w))
        condition = self._condition(low_res, frames)
        denoiser = denoiser_in_tiles(self.denoiser_for, condition, self.settings)
        denoiser = step_by_step(denoiser, step)
        if known is not None:
            denoiser = _holding(denoiser, known.to(noise), noise)
        sigmas = self.sampling.sigmas
        first = to_ve(noise, sigmas[0])

        def run() -> Tensor:
            return self.sampling.sampler(denoiser, first, sigmas, noise=source, callback=callback)

        x = in_scope(self.denoiser_for, planned_evaluations(condition, self.settings, sigmas), run)
        return check_finite(x, frames[0])

    def _source(self, videos: int, frames: range) -> NoiseSource:
        numbers = [0] * len(frames) if self.settings.same_noise else frames
        return self.sampling.noise(videos, numbers)

    def _condition(self, low_res: Tensor, frames: range) -> SegmentCondition:
        """The condition of a chunk; the noise of a frame does not depend on its chunk."""
        level = self.settings.noise_level
        source = self._source(len(low_res), frames)
        noise = source.like(low_res, stream="low resolution")
        levels = torch.full((len(low_res),), level)
        noised = self.settings.schedule.add_noise(low_res, noise, levels)
        return SegmentCondition(
            frames=frames, concatenated=noised, noise_level=level, level="upsampling"
        )


def planned_evaluations(
    condition: SegmentCondition, settings: Upsampling, sigmas: Tensor
) -> Evaluations:
    """The evaluations that `denoiser_in_tiles` requests."""
    low, side = condition.concatenated, settings.tile
    sides = (n if side is None else min(n, side) for n in low.shape[-2:])
    return Evaluations(condition, (len(low), settings.latent_channels, *sides), sigmas)


def denoiser_in_tiles(
    denoiser_for: DenoiserFor, condition: SegmentCondition, settings: Upsampling
) -> Denoiser:
    """The denoiser of a chunk, on whole frames or in tiles as the settings say."""
    if settings.tile is None or settings.tile >= max(condition.concatenated.shape[-2:]):
        return denoiser_for(condition)
    return _in_tiles(denoiser_for, condition, settings.tile, settings.tile_overlap)


def _in_tiles(
    denoiser_for: DenoiserFor, condition: SegmentCondition, tile: int, overlap: int
) -> Denoiser:
    """A denoiser of whole frames from denoisers of tiles."""
    low = condition.concatenated
    denoisers = [
        denoiser_for(replace(condition, concatenated=part.of(low)))
        for part in tiles(*low.shape[-2:], tile, overlap)
    ]

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        following = iter(denoisers)
        return tiled(lambda own: next(following)(own, sigma), x, tile, overlap)

    return denoise


def _holding(denoiser: Denoiser, known: Tensor, noise: Tensor) -> Denoiser:
    """The denoiser with the first frames held at `known`, noised to the current level in its input.

    Equals `guidance.masked` for whole frames, without mask tensors of the size of the chunk.
    """
    count = known.shape[1]

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        noised = known + broadcast(sigma, x)[:, :count] * noise[:, :count]
        denoised = denoiser(torch.cat([noised, x[:, count:]], dim=1), sigma)
        return torch.cat([known, denoised[:, count:]], dim=1)

    return denoise


def upsample_whole(
    denoiser_for: DenoiserFor,
    low_res: Tensor,
    sampling: Sampling,
    settings: Upsampling,
    *,
    callback: ProgressCallback | None = None,
) -> Tensor:
    """Latents [b t c h w] of a video that fits into memory: its chunks are denoised in parallel and
    averaged at every step, so that none depends on another. The store keeps these steps until the
    video is finished."""
    check_video(low_res, 3)
    frames = low_res.shape[1]
    window = min(settings.chunk, frames)
    overlap = min(settings.overlap, window - 1)
    plan = sliding_windows(frames, window, overlap)
    weights = fuse_weights("pyramid", plan, frames, overlap)
    side_by_side = _SideBySide(denoiser_for, plan, weights)
    report = reporter(callback, "upsampling", 0, 1)
    whole = _Chunk(side_by_side, sampling, settings, in_steps=True)
    return whole.sample(low_res, 0, None, report)


@dataclass(frozen=True)
class _SideBySide(ScopedDenoisers):
    """Denoisers of a whole video from denoisers of its windows."""

    denoiser_for: DenoiserFor
    plan: Sequence[Window]
    weights: Sequence[Tensor]

    def __call__(self, condition: SegmentCondition) -> Denoiser:
        bound = {at: self.denoiser_for(_cut(condition, at)) for at in self.plan}
        return windowed(bound.__getitem__, self.plan, self.weights)

    def sampling(self, planned: Evaluations, run: Callable[[], Tensor]) -> Tensor:
        first = _cut(planned.condition, self.plan[0])
        return in_scope(self.denoiser_for, planned._replace(condition=first), run)


def _cut(condition: SegmentCondition, window: Window) -> SegmentCondition:
    frames = range(window[0], window[-1] + 1)
    low = condition.concatenated[:, frames.start : frames.stop]
    return replace(condition, frames=frames, concatenated=low)
