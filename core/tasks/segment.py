"""One segment of a video: its condition, its settings, and the one function that samples it.

All long-video tasks work segment by segment. What a segment shows is up to the caller: a task
passes a :class:`SegmentCondition` to `denoiser_for` and gets a denoiser, which may be guided, may
use a different prompt for every part of the video, or may belong to another program.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from ..diffusion.denoiser import Denoiser, to_ve
from ..diffusion.guidance import Scale, context_guided, masked, with_known_input
from ..diffusion.noise import NoiseSource
from ..diffusion.samplers import Callback, Step
from ..diffusion.schedules import NoiseSchedule
from ..networks.conditions import NOISE_LEVEL, Conditions, frame_rate_ids
from ..networks.context_frames import ContextFrames, perturbed
from ..networks.layers.views import Views
from ..networks.reference import ReferenceUse
from .content import name_of
from .finished import Finished, always_made
from .frame_stream import check_finite

Size = tuple[int, int, int, int]
"""(b, c, h, w) of the latents."""


@dataclass(frozen=True, kw_only=True)
class SegmentCondition:
    """What a task knows about the segment to be denoised.

    frames: absolute frame numbers in the finished video, a range if they are evenly spaced.
    context: context frames [b t c h w]. rate: frame-rate class, None = the default. times: of the
    frames, as temporal layers count them; None = 0, 1, 2, ... concatenated: [b t c h w] extra input
    channels, for an upsampler or for key frames that are re-synthesised; noise_level: the step of
    its own schedule that it was noised to. views: windows that temporal attention sees. reference:
    see `networks.reference`. level: "segment", "window", "keys", "interpolation 1", ...
    """

    frames: Sequence[int]
    context: ContextFrames | None = None
    rate: int | None = None
    times: Sequence[int] | None = None
    concatenated: Tensor | None = None
    noise_level: int | None = None
    views: Views | None = None
    reference: ReferenceUse | None = None
    level: str = "segment"


def conditions_of(
    condition: SegmentCondition,
    ids: Mapping[str, int | None],
    text: Tensor | None = None,
    pooled_text: Tensor | None = None,
) -> Conditions:
    """The network's conditions for a segment and its prompt [b n d] or [b t n d]. ids: those that
    the network reads, see `NetworkSpec.ids`."""
    numbers = frame_rate_ids(ids, condition.rate)
    if condition.noise_level is not None:
        numbers[NOISE_LEVEL] = torch.tensor([condition.noise_level])
    return Conditions(
        text=text,
        pooled_text=pooled_text,
        ids=numbers,
        concatenated=condition.concatenated,
        context=condition.context,
        times=None if condition.times is None else torch.as_tensor(condition.times),
        frames=tuple(condition.frames),
        views=condition.views,
        reference=condition.reference,
    )


DenoiserFor = Callable[[SegmentCondition], Denoiser]
"""denoiser_for(condition) -> denoiser of x [b t c h w], with t = len(condition.frames)."""


class Evaluations(NamedTuple):
    """The evaluations that a sampler is about to request: with this condition, or others of as many
    frames, on latents of this size at these noise levels [steps + 1]."""

    condition: SegmentCondition
    size: Size
    sigmas: Tensor


class ScopedDenoisers(ABC):
    """A `DenoiserFor` whose denoisers share what is prepared once per sampling run, such as another
    program's models in memory."""

    @abstractmethod
    def __call__(self, condition: SegmentCondition) -> Denoiser: ...

    @abstractmethod
    def sampling(self, planned: Evaluations, run: Callable[[], Tensor]) -> Tensor:
        """Call run(), which samples with these denoisers, while everything it needs is prepared."""


def in_scope(denoiser_for: DenoiserFor, planned: Evaluations, run: Callable[[], Tensor]) -> Tensor:
    """Call run(), which samples with denoisers of `denoiser_for`, in their scope if any."""
    if isinstance(denoiser_for, ScopedDenoisers):
        return denoiser_for.sampling(planned, run)
    return run()


@dataclass(frozen=True)
class Sampling:
    """How segments are sampled.

    seed: of the first video of a batch; the second has seed + 1. shared_noise: as in training, see
    `noise.mixed_noise`; infinite for the same noise in every frame. finished: the store in which
    chunks are looked up and kept.
    """

    sampler: Callable[..., Tensor]  # one of sampling.SAMPLERS, or like them
    sigmas: Tensor  # [steps + 1], falling
    seed: int = 0
    device: torch.device | str = "cpu"
    shared_noise: float = 0.0
    finished: Finished = always_made

    def noise(self, videos: int, frames: Sequence[int]) -> NoiseSource:
        """The noise of these frames, whatever segment they are in."""
        seeds = tuple(range(self.seed, self.seed + videos))
        return NoiseSource(seeds, tuple(frames), self.shared_noise)


class Progress(NamedTuple):
    """Step `step` of segment `chunk` of `chunks` (0 = unknown number) in a stage."""

    stage: str
    chunk: int
    chunks: int
    step: Step


ProgressCallback = Callable[[Progress], None]


@dataclass(frozen=True, kw_only=True)
class Perturbation:
    """Noise on context frames, so that their errors are not carried on (LVDM, section 3.4).

    level: a step of the schedule's forward process; the model must have been trained with it.
    """

    level: int
    schedule: NoiseSchedule


@dataclass(frozen=True, kw_only=True)
class ContextUse:
    """How context frames act on a segment.

    scale: of context guidance f + s (f_context - f); 1 costs one evaluation per step, others two.
    keep: also hold the context frames in the sampler's x, noised to its level at every step.
    to_network: pass them to the network; for a network that takes none, hold them in x only.
    in_place: put them into x as the network gets them, so that both branches of context guidance
    see them (LVDM's original).
    restore: replace the sampled frames of the finished segment by the context frames.
    """

    scale: Scale = 1.0
    perturbation: Perturbation | None = None
    keep: bool = False
    to_network: bool = True
    in_place: bool = False
    restore: bool = True


def sample_segment(
    denoiser_for: DenoiserFor,
    condition: SegmentCondition,
    size: Size,
    sampling: Sampling,
    use: ContextUse = ContextUse(),  # noqa: B008 (frozen)
    *,
    x0: Tensor | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Sample the latents [b t c h w] of one segment, float32 on the sampling's device.

    x0: start from these latents, noised to the first sigma, instead of from noise alone.
    """
    pending = begin_segment(denoiser_for, condition, size, sampling, use, x0=x0, callback=callback)
    return pending()


def begin_segment(
    denoiser_for: DenoiserFor,
    condition: SegmentCondition,
    size: Size,
    sampling: Sampling,
    use: ContextUse = ContextUse(),  # noqa: B008 (frozen)
    *,
    x0: Tensor | None = None,
    callback: Callback | None = None,
) -> Callable[[], Tensor]:
    """Begin what `sample_segment` does; the returned function returns the latents."""
    source = sampling.noise(size[0], condition.frames)

    def make() -> Tensor:
        return _sampled(denoiser_for, condition, size, sampling, use, x0, callback)

    pending = sampling.finished.begin(
        make, frames=condition.frames, level=condition.level, condition=condition, size=size,
        noise=source,
        sigmas=sampling.sigmas, sampler=name_of(sampling.sampler), use=use, x0=x0,
    )  # fmt: skip
    return lambda: _restored(pending().to(sampling.device), condition.context, use)


def _sampled(
    denoiser_for: DenoiserFor,
    condition: SegmentCondition,
    size: Size,
    sampling: Sampling,
    use: ContextUse,
    x0: Tensor | None,
    callback: Callback | None,
) -> Tensor:
    b, c, h, w = size
    shape = (b, len(condition.frames), c, h, w)
    source = sampling.noise(b, condition.frames)
    noise = source.initial(torch.empty(shape, device=sampling.device))
    first = sampling.sigmas[0]
    # Unit variance at the last variance-preserving level is variance 1 + s^2 here.
    x = to_ve(noise, first) if x0 is None else x0.to(noise) + first.to(noise) * noise
    denoiser = _context_denoiser(denoiser_for, condition, source, use, noise)

    def run() -> Tensor:
        return sampling.sampler(denoiser, x, sampling.sigmas, noise=source, callback=callback)

    made = in_scope(denoiser_for, Evaluations(condition, size, sampling.sigmas), run)
    return check_finite(made, condition.frames[0])


def _context_denoiser(
    denoiser_for: DenoiserFor,
    condition: SegmentCondition,
    source: NoiseSource,
    use: ContextUse,
    noise: Tensor,
) -> Denoiser:
    """The denoiser with context frames perturbed, guided by and held, as `use` says."""
    clean = condition.context
    if clean is None or not bool(clean.mask.any()):
        return denoiser_for(condition)
    given = _perturbed(clean, source, use.perturbation) if use.to_network else None
    denoiser = denoiser_for(replace(condition, context=given))
    if given is not None and (isinstance(use.scale, Tensor) or use.scale != 1):
        without = denoiser_for(replace(condition, context=clean.dropped()))
        denoiser = context_guided(denoiser, without, use.scale)
    if use.in_place and given is not None:
        denoiser = with_known_input(denoiser, given.latents, clean.expanded_mask)
    if use.keep:
        denoiser = masked(denoiser, clean.latents.to(noise), clean.expanded_mask, noise=noise)
    return denoiser


def _perturbed(
    context: ContextFrames, source: NoiseSource, perturbation: Perturbation | None
) -> ContextFrames:
    """Noise is drawn once per segment; a frame given to two segments is perturbed alike in both."""
    if perturbation is None:
        return context
    noise = source.like(context.latents, stream="perturbation")
    return perturbed(context, perturbation.schedule, perturbation.level, noise)


def _restored(x: Tensor, context: ContextFrames | None, use: ContextUse) -> Tensor:
    if context is None or not use.restore:
        return x
    given = context.expanded_mask.to(x) > 0
    return torch.where(given, context.latents.to(x), x)


# --------------------------------------------------------------------------------------------------
# Checks that tasks make before they start.


def check_size(size: Size, sampling: Sampling) -> None:
    """Raise ValueError unless size is positive (b, c, h, w) and there are at least 2 sigmas."""
    if len(size) != 4 or min(size) < 1:
        raise ValueError(f"Expected a size (b, c, h, w) of positive numbers, got {tuple(size)}.")
    if sampling.sigmas.ndim != 1 or len(sampling.sigmas) < 2:
        raise ValueError(
            f"Expected at least 2 sigmas in one row, got shape {list(sampling.sigmas.shape)}."
        )


def check_given(given: Tensor, size: Size, what: str = "given") -> None:
    """Raise ValueError unless the frames [b t c h w] belong to a video of this size."""
    b, c, h, w = size
    if given.ndim != 5 or (len(given), *given.shape[2:]) != (b, c, h, w):
        raise ValueError(
            f"The {what} frames of shape {list(given.shape)} do not fit "
            f"a video of shape {[b, 't', c, h, w]}."
        )


def check_frames(frames: int, size: Size, sampling: Sampling, done: Tensor | None) -> None:
    """Raise ValueError unless a video of `frames` frames that begins with `done` can be sampled."""
    check_size(size, sampling)
    if frames < 1:
        raise ValueError(f"A video must have at least 1 frame, got {frames}.")
    if done is not None:
        check_given(done, size, "finished")
        if done.shape[1] > frames:
            raise ValueError(
                f"{done.shape[1]} finished frames are more than the {frames} of the video."
            )


def check_whole(video: Tensor, size: Size, frames: int, what: str) -> None:
    """Raise ValueError unless the video [b t c h w] has as many frames as the segment."""
    check_given(video, size, what)
    if video.shape[1] != frames:
        raise ValueError(f"The {what} frames are {video.shape[1]}, but the segment has {frames}.")


def reporter(
    callback: ProgressCallback | None, stage: str, chunk: int, chunks: int
) -> Callback | None:
    """The sampler's callback that reports the steps of one segment."""
    if callback is None:
        return None
    return lambda step: callback(Progress(stage, chunk, chunks, step))


Reports = Callable[[str], Callback | None]
"""reports(stage) -> the sampler's callback for this stage of a segment."""


def reports_of(callback: ProgressCallback | None) -> Reports:
    """The sampler's callbacks for the stages of a segment that is the only one."""
    return lambda stage: reporter(callback, stage, 0, 1)
