"""Videos of any length, as generators of finished latents [b t c h w].

    single_segment  one segment, from noise alone or with context frames
    sliding         all frames at once, denoised in overlapping windows (with FreeNoise)
    prediction      segment by segment, each conditioned on the last frames of the one before
    hierarchical    key frames by prediction, then one or more passes of interpolation

Segments are handed over in latent space. The noise of a frame depends only on the seed and on its
absolute number, so that an interrupted run resumes bit for bit (`done`).
`torch.cat(list(...), dim=1)` is the whole video.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ..diffusion.samplers import Callback
from ..networks.context_frames import ContextFrames, given_frames
from ..networks.reference import ReferenceWindow
from .drift import HeldReference, matched
from .finished import WithParts
from .interpolation import FACTOR, Interpolation, interpolate
from .segment import (
    ContextUse,
    DenoiserFor,
    Perturbation,
    Progress,
    ProgressCallback,
    Reports,
    Sampling,
    SegmentCondition,
    Size,
    check_frames,
    check_given,
    check_whole,
    reporter,
    sample_segment,
)
from .sliding import SlidingWindows, sliding
from .windows import Chunk, prediction_chunks

__all__ = [
    "Between",
    "SegmentCondition",
    "ContextUse",
    "Continuation",
    "DenoiserFor",
    "FirstSegment",
    "Hierarchy",
    "Perturbation",
    "Progress",
    "Sampling",
    "Segment",
    "SlidingWindows",
    "hierarchical",
    "key_frames",
    "prediction",
    "single_segment",
    "sliding",
]


# --------------------------------------------------------------------------------------------------
# One segment.


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Inputs and settings of a single segment, besides its prompt.

    context: context frames [b frames c h w] with their mask, used as `use` says. rate: frame-rate
    class. x0: start from this video, noised to the first sigma (video to video).
    """

    context: ContextFrames | None = None
    use: ContextUse = ContextUse()
    rate: int | None = None
    x0: Tensor | None = None


def single_segment(
    denoiser_for: DenoiserFor,
    size: Size,
    sampling: Sampling,
    frames: int,
    *,
    settings: Segment = Segment(),  # noqa: B008 (frozen)
    done: Tensor | None = None,
    callback: ProgressCallback | None = None,
) -> Iterator[Tensor]:
    """Yield one segment of `frames` frames; size is (b, c, h, w) of its latents.

    done: the segment itself if it is finished, in which case nothing is yielded.
    """
    check_frames(frames, size, sampling, done)
    if settings.context is not None:
        check_whole(settings.context.latents, size, frames, "given")
    if settings.x0 is not None:
        check_whole(settings.x0, size, frames, "initial")
    condition = SegmentCondition(frames=range(frames), context=settings.context, rate=settings.rate)

    def run() -> Iterator[Tensor]:
        if done is None or done.shape[1] < frames:
            at = reporter(callback, "segment", 0, 1)
            yield sample_segment(
                denoiser_for, condition, size, sampling, settings.use, x0=settings.x0, callback=at
            )

    return run()


# --------------------------------------------------------------------------------------------------
# Prediction (Video LDM, section 3.2; LVDM, section 3.3).


class FirstSegment(Protocol):
    """Another way to sample a first segment without context frames, such as `SparseFirst`."""

    def check(self, frames: int) -> None:
        """Raise ValueError unless a segment of `frames` frames can be sampled this way."""

    def __call__(
        self,
        denoiser_for: DenoiserFor,
        condition: SegmentCondition,
        size: Size,
        sampling: Sampling,
        reports: Reports,
    ) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class Continuation:
    """Settings of a video that is continued segment by segment.

    window: frames per segment, context frames included. context: how many of the last frames each
    segment is conditioned on. rate: frame-rate class. first: how a first segment without context
    frames is sampled; None = like the others. spacing: for key frames, frames of the finished video
    from one to the next. level: the segments' name for `denoiser_for` and progress. given:
    [b n c h w] what the video begins with (an image, frames of a video), of which the first segment
    sees the last `context`; None = the first segment starts from noise alone. match: 0 .. 1, how
    far the colours of a segment are moved to those of the segment before it (the first one's to
    those of `given`), see `drift.matched`. reference: keep the first frames of the video in the
    spatial attention of all segments, see `drift.HeldReference`.
    """

    window: int = 16
    context: int = 1
    use: ContextUse = ContextUse()
    rate: int | None = None
    first: FirstSegment | None = None
    spacing: int = 1
    level: str = "segment"
    given: Tensor | None = None
    match: float = 0.0
    reference: ReferenceWindow | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.match <= 1:
            raise ValueError(f"The share match must lie in 0 .. 1, got {self.match}.")
        if not 1 <= self.context < self.window:
            raise ValueError(
                f"context {self.context} must be at least 1 and smaller than window {self.window}."
            )
        if self.first is not None:
            self.first.check(self.window)


def prediction(
    denoiser_for: DenoiserFor,
    size: Size,
    sampling: Sampling,
    frames: int,
    *,
    settings: Continuation = Continuation(),  # noqa: B008 (frozen)
    done: Tensor | None = None,
    callback: ProgressCallback | None = None,
) -> Iterator[Tensor]:
    """Yield a video segment by segment, each continuing from the last frames before it.

    The last segment is sampled whole and cropped to `frames`. done: what an interrupted run with
    the same settings yielded; only the rest is yielded.
    """
    check_frames(frames, size, sampling, done)
    given = settings.given
    if given is not None:
        check_given(given, size)
        if not 0 < given.shape[1] < frames:
            raise ValueError(
                f"A video of {frames} frames cannot begin with {given.shape[1]} given frames."
            )
    chunks = _chunks(frames, settings)
    first, before = _resumed(chunks, done, frames, settings)

    def make(k: int, past: Tensor | None, head: Tensor | None) -> Tensor:
        condition = _condition(chunks[k], settings, past, sampling)
        if settings.first is not None and condition.context is None:
            return settings.first(denoiser_for, condition, size, sampling, reports)
        at = reporter(callback, settings.level, k, len(chunks))
        own, drawn = denoiser_for, sampling
        if head is not None and settings.reference is not None:
            own = HeldReference(own, head, settings.reference, sampling, settings.spacing)
            parts = {"head": head, "reference": settings.reference}
            drawn = replace(sampling, finished=WithParts(sampling.finished, parts))
        return sample_segment(own, condition, size, drawn, settings.use, callback=at)

    def reports(stage: str) -> Callback | None:
        return reporter(callback, stage, 0, len(chunks) if stage == settings.level else 1)

    return _predicted(make, list(enumerate(chunks))[first:], before, frames, settings)


class Before(NamedTuple):
    """What a segment takes from the video before it, each None where there is none: its last frames
    (`past`), the new frames of the segment before (`segment`), whose colours are matched, and its
    first frames (`head`), for a reference."""

    past: Tensor | None = None
    segment: Tensor | None = None
    head: Tensor | None = None


def _predicted(
    make: Callable[[int, Tensor | None, Tensor | None], Tensor],
    chunks: list[tuple[int, Chunk]],
    before: Before,
    frames: int,
    settings: Continuation,
) -> Iterator[Tensor]:
    """Sample these segments and yield the new frames of each."""
    past, segment, head = before
    for k, chunk in chunks:
        new = make(k, past, head)[:, chunk.context :]
        # Matched before it is cropped: frames do not depend on where the video ends.
        segment = new if segment is None else matched(new, segment.to(new), settings.match)
        new = segment[:, : frames - chunk.start - chunk.context].clone()
        past = new if past is None else torch.cat([past, new], dim=1)
        past = past[:, -settings.context :].clone()
        made = (
            new if k or settings.given is None else torch.cat([settings.given.to(new), new], dim=1)
        )
        head = made[:, : settings.window].clone() if head is None else head
        yield made


def _condition(
    chunk: Chunk, settings: Continuation, past: Tensor | None, sampling: Sampling
) -> SegmentCondition:
    """The condition of a segment, with the frames before it as context."""
    given = None
    if chunk.context and past is not None:
        known = past[:, -chunk.context :].to(sampling.device)
        given = given_frames(known, range(chunk.context), chunk.stop - chunk.start)
    frames = range(chunk.start * settings.spacing, chunk.stop * settings.spacing, settings.spacing)
    return SegmentCondition(frames=frames, context=given, rate=settings.rate, level=settings.level)


def _chunks(frames: int, settings: Continuation) -> list[Chunk]:
    """The segments to sample, each but perhaps the first continuing from frames before it."""
    there = 0 if settings.given is None else settings.given.shape[1]
    given = min(there, settings.context)
    offset = there - given
    plan = prediction_chunks(frames - offset, settings.window, settings.context)
    moved = [Chunk(c.start + offset, c.stop + offset, c.context) for c in plan]
    return [moved[0]._replace(context=given), *moved[1:]]


def _resumed(
    chunks: list[Chunk], done: Tensor | None, frames: int, settings: Continuation
) -> tuple[int, Before]:
    """(index of the first segment to sample, what is before it); `done` must end with a segment."""
    if done is None or done.shape[1] == 0:
        past = None if settings.given is None else settings.given[:, -settings.context :].clone()
        return 0, Before(past, past)
    ends = [min(chunk.stop, frames) for chunk in chunks]
    if done.shape[1] not in ends:
        raise ValueError(
            f"{done.shape[1]} finished frames cannot be continued: segments end after "
            f"{', '.join(map(str, ends[:5]))}{', ...' if len(ends) > 5 else ''} frames."
        )
    last = ends.index(done.shape[1])
    parts = (
        done[:, -settings.context :],
        done[:, chunks[last].start + chunks[last].context :],
        done[:, : settings.window],
    )
    return last + 1, Before(*(one.clone() for one in parts))


# --------------------------------------------------------------------------------------------------
# Key frames, then the frames between them.


@dataclass(frozen=True, kw_only=True)
class Between:
    """Settings of the frames between key frames; see `interpolation.interpolate`.

    denoiser_for, sampling: of the interpolation model; None = those of the key frames. factor:
    frames per key frame after one pass.
    """

    denoiser_for: DenoiserFor | None = None
    sampling: Sampling | None = None
    use: ContextUse = ContextUse()
    window_keys: int = 5
    rate: int | None = 0
    passes: int = 2
    factor: int = FACTOR

    def __post_init__(self) -> None:
        if self.passes < 1 or self.window_keys < 2:
            raise ValueError(
                f"passes {self.passes} must be at least 1, and window_keys {self.window_keys} at "
                f"least 2."
            )

    def interpolation(self, total_keys: int, frames: int = 0) -> Interpolation:
        """These settings for `total_keys` key frames and a video of `frames` frames."""
        return Interpolation(
            window_keys=self.window_keys, rate=self.rate, passes=self.passes, use=self.use,
            factor=self.factor, total_keys=total_keys, frames=frames,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Hierarchy:
    """Settings of the key frames, whose window and context count in key frames, and of the frames
    between them."""

    keys: Continuation = Continuation()
    between: Between = Between()


def key_frames(frames: int, passes: int = 2, factor: int = FACTOR) -> int:
    """How many key frames `hierarchical` predicts for a video of `frames` frames."""
    return -(-(frames - 1) // factor**passes) + 1


def hierarchical(
    denoiser_for: DenoiserFor,
    size: Size,
    sampling: Sampling,
    frames: int,
    *,
    settings: Hierarchy = Hierarchy(),  # noqa: B008 (frozen)
    done: Tensor | None = None,
    callback: ProgressCallback | None = None,
) -> Iterator[Tensor]:
    """Yield a video whose key frames are predicted and whose other frames are interpolated.

    Key frames lie factor ** passes frames apart. The frames between them are made as soon as their
    key frames exist, so that memory does not grow with the length. done: what an interrupted run
    with the same settings yielded; only the rest is yielded.
    """
    check_frames(frames, size, sampling, done)
    between = settings.between
    predicting = replace(settings.keys, spacing=between.factor**between.passes, level="keys")
    keys = key_frames(frames, between.passes, between.factor)
    if predicting.given is not None:
        keys = max(keys, 1 + predicting.given.shape[1])
    # Every key frame is a frame of the video, so `done` contains those that exist.
    known = None if done is None else done[:, :: predicting.spacing]
    known = _whole_segments(known, _chunks(keys, predicting), keys)
    predicted = prediction(
        denoiser_for, size, sampling, keys, settings=predicting, done=known, callback=callback
    )
    video = interpolate(
        between.denoiser_for or denoiser_for,
        predicted if known is None else chain([known], predicted),
        between.sampling or sampling,
        settings=between.interpolation(keys, frames),
        done=done,
        callback=callback,
    )
    return _cropped(video, frames - (0 if done is None else done.shape[1]))


def _whole_segments(known: Tensor | None, chunks: list[Chunk], keys: int) -> Tensor | None:
    """The key frames of complete prediction segments among those that are known."""
    ends = [min(chunk.stop, keys) for chunk in chunks]
    ends = [end for end in ends if known is not None and end <= known.shape[1]]
    return known[:, : ends[-1]] if ends else None


def _cropped(stream: Iterator[Tensor], frames: int) -> Iterator[Tensor]:
    """The first `frames` frames of a stream, which is read no further."""
    while frames > 0:
        chunk = next(stream)
        yield chunk[:, :frames]
        frames -= chunk.shape[1]
