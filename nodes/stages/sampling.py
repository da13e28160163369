"""The Video Sampler: checks its inputs and runs the chosen strategy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ...core.diffusion.denoiser import Denoiser
from ...core.diffusion.free_init import free_init
from ...core.graph.wording import counted
from ...core.networks.context_frames import ContextFrames, given_frames
from ...core.tasks.long_video import (
    Between,
    Continuation,
    Hierarchy,
    Segment,
    hierarchical,
    prediction,
    single_segment,
)
from ...core.tasks.rolling import rolling
from ...core.tasks.segment import (
    ContextUse,
    DenoiserFor,
    Evaluations,
    Perturbation,
    Sampling,
    ScopedDenoisers,
    SegmentCondition,
    in_scope,
)
from ...core.tasks.sliding import SlidingWindows, sliding
from ...core.tasks.sparse_first import SparseFirst, last_step, sparse_first
from ..checks import require, sampler_faults
from ..choices import (
    CONTINUING,
    HIERARCHICAL,
    PREDICTION,
    ROLLING,
    SINGLE_SEGMENT,
    SLIDING_WINDOWS,
    SPARSE_FIRST,
    VIDEO_TO_VIDEO,
    VIEWS,
)
from ..host.interface import Guidance
from ..host.shared.misfits import (
    NEEDS_PURE_NOISE,
    REFERENCE_WITHOUT_WINDOWS,
    check_same_latents,
)
from ..host.shared.runs import finished_chunks
from ..host.shared.setup_warnings import (
    CANNOT_BE_GIVEN_FRAMES,
    SamplerSetup,
    sampler_warnings,
    trained_keys,
)
from ..host.shared.start_image import check_start_image
from .published import with_published_defaults
from .published_script import script_for
from .rolling import rolling_settings
from .running import Meter, Settings, gathered, require_room, sampling_for
from .shown import Sampled
from .strategy import Strategy, flat, ignored_settings
from .texts import read_positions
from .video_request import Prompts, VideoRequest, in_latents, prompts_for

if TYPE_CHECKING:
    from ..host.interface import Host, ModelFacts, Wire

IN_CHUNKS = ("seed", "frames", "context", "strategy.latent")
"""Inputs outside the key of a run: chunks have their values in their own keys."""


def sample_video(
    host: Host, model: Wire, prompts: Prompts, request: VideoRequest, settings: Settings
) -> Sampled:
    """Sample a video; all inputs are checked before the first step."""
    facts = host.facts(model)
    request, settings = with_published_defaults(facts, request, settings)
    values = vars(request) | vars(settings) | flat(request.strategy)
    require(sampler_faults, values, [name for name, value in values.items() if value is not None])
    prompts = prompts_for(host, model, prompts)
    run = _Run(host, model, prompts, in_latents(facts.temporal_factor, request), settings)
    chunks = run.methods[request.strategy.name]()
    frames = run.request.frames
    latent = gathered(host, model, chunks, frames * run.strategy.is_streamed)
    return Sampled(latent, run.finished, run.strategy, frames, run.sampling.sigmas)


class _Run:
    """One call of the Video Sampler, with its inputs checked and converted to latent units."""

    def __init__(
        self, host: Host, model: Wire, prompts: Prompts, request: VideoRequest, settings: Settings
    ):
        self.host, self.model, self.request, self.prompts = host, model, request, prompts
        self.strategy = request.strategy
        self.facts = host.facts(model)
        self.size = _latent_size(self.facts, request.width, request.height)
        self.settings = replace(settings, denoise=self.strategy.denoise)
        self.finished = finished_chunks(host, without=IN_CHUNKS, prompts=prompts)
        self.sampling = self._with_free_init(self._sampling(model, self.settings))
        self.meter = Meter(host)
        self.methods = {
            SINGLE_SEGMENT: self.single, SPARSE_FIRST: self.sparse, SLIDING_WINDOWS: self.sliding,
            PREDICTION: self.predicted, HIERARCHICAL: self.hierarchical,
            VIDEO_TO_VIDEO: self.video_to_video, ROLLING: self.rolling,
        }  # fmt: skip
        self.context = self._latents(request.context, "context frames")
        self._check()
        setup = self._setup()
        ignored = ignored_settings(host, self.facts, self.strategy)
        for sentence in (*sampler_warnings(setup), *ignored):
            host.warn(sentence)
        if self.facts.reference is not None and (setup.views or not setup.holds_reference):
            host.warn(REFERENCE_WITHOUT_WINDOWS)
        size = request.width, request.height
        require_room(host, self.facts, setup.most_together, size, request.cfg)

    def _sampling(self, model: Wire, settings: Settings) -> Sampling:
        return sampling_for(self.host, model, settings, self.prompts[0], self.finished)

    def _with_free_init(self, sampling: Sampling) -> Sampling:
        """The sampling, repeated if the model has FreeInit."""
        how = self.facts.free_init
        if how is None:
            return sampling
        if self.strategy.name == VIDEO_TO_VIDEO:
            raise ValueError(NEEDS_PURE_NOISE)
        return replace(sampling, sampler=free_init(sampling.sampler, how))

    def _latents(self, latent: dict[str, Any] | None, what: str) -> Tensor | None:
        """The latents [b n c h w] of a LATENT; ValueError if their size is not the video's."""
        if latent is None:
            return None
        given = self.host.to_core(self.model, latent)
        if given.shape[-2:] != self.size[-2:]:
            f = self.facts.factor
            raise ValueError(
                f"the {what} are {given.shape[-1] * f}x{given.shape[-2] * f} pixels, "
                f"but the video is {self.request.width}x{self.request.height}: set width and "
                "height to theirs, or resize them before they are encoded"
            )
        return given

    def _check(self) -> None:
        if self.facts.is_upsampler:
            raise ValueError("the model is an upsampler: use it in Upsample Video")
        if self.facts.low_res_channels:
            raise ValueError("the model interpolates between frames: use it in Interpolate Frames")
        if self.strategy.window_schedule == VIEWS and not self.facts.reads_views:
            raise ValueError(
                "the temporal layers in the model cannot see views: take another window_schedule, "
                "or layers whose attention can, such as motion modules"
            )
        if self.facts.begins_with_image:
            size = self.request.width, self.request.height
            check_start_image(*self.prompts, size, self.facts.factor)
        given = self.context is not None and not self.strategy.hold_context
        check_can_begin(self.host.facts(self._predictor), self.strategy, given)

    def _setup(self) -> SamplerSetup:
        strategy = self.strategy
        predictor, between = (
            model and self.host.facts(model).layers
            for model in (strategy.prediction_model, strategy.interpolation_model)
        )
        return SamplerSetup(
            model=self.facts.layers, strategy=strategy.name, frames=self.request.frames,
            window=strategy.window, windows=strategy.windows, passes=strategy.passes,
            prediction=predictor, interpolation=between, sampler=self.settings.sampler_name,
            given=self.context is not None and not strategy.hold_context, cfg=self.request.cfg,
            views=strategy.window_schedule == VIEWS, steps=self.settings.steps,
        )  # fmt: skip

    @property
    def _predictor(self) -> Wire:
        return self.strategy.prediction_model or self.model

    def _denoisers(self, model: Wire, *, guided: bool = True) -> DenoiserFor:
        usual = Guidance(cfg=self.request.cfg, rescale=self.request.guidance_rescale)
        guided = guided and self.host.facts(model).reads_text
        return self.host.denoiser_for(model, *self.prompts, usual if guided else Guidance())

    def _denoiser_for(self) -> DenoiserFor:
        """The denoisers of the model; those of the prediction model, if there is one, for segments
        with context frames. Both read the reference window of the former."""
        first, predicts = self._denoisers(self.model), self.strategy.prediction_model
        if predicts is None:
            return first
        check_same_latents(*map(self.host.facts, (self.model, predicts)))
        if self.facts.reference is not None:
            predicts = self.host.with_reference(predicts, self.facts.reference)
        return _ByContext(first, self._denoisers(predicts))

    def _sparse_first(self) -> SparseFirst | None:
        """How a segment without context frames is sampled; None for all frames together."""
        sparse = self.strategy.sparse
        if sparse is None or self.context is not None:
            return None
        check_takes_context(self.host, self.model)
        fill = replace(self.settings, steps=sparse.fill_steps, denoise=sparse.fill_denoise)
        return SparseFirst(
            count=sparse.first_frames,
            denoiser_for=self._denoisers(self.model, guided=False),
            sampling=self._sampling(self.model, fill),
            from_blend=sparse.fill_denoise < 1,
            together=last_step(self.facts.schedule),
        )

    def _use(self) -> ContextUse:
        level, strategy = self.strategy.perturbation, self.strategy
        noise = Perturbation(level=level, schedule=self.facts.schedule) if level else None
        return ContextUse(
            scale=strategy.context_guidance, perturbation=noise, keep=strategy.hold_context,
            in_place=self.host.facts(self._predictor).in_place,
            to_network=not strategy.hold_context or self.host.facts(self._predictor).takes_context,
        )  # fmt: skip

    def _context(self) -> ContextFrames | None:
        """The context frames at context_positions, or the last ones at the start of the video."""
        if self.context is None:
            return None
        positions = read_positions(self.strategy.context_positions, self.request.frames)
        if positions:
            return self._keyframes(positions)
        known = self.context[:, -self.strategy.context_frames :]
        if known.shape[1] >= self.request.frames:
            raise ValueError(
                f"{counted(known.shape[1], 'context frame')} leave nothing to sample in a video of "
                f"{counted(self.request.frames, 'frame')}"
            )
        return given_frames(known, range(known.shape[1]), self.request.frames)

    def _keyframes(self, positions: list[int]) -> ContextFrames:
        if len(positions) != self.context.shape[1]:
            raise ValueError(
                f"context has {counted(self.context.shape[1], 'frame')}, but context_positions "
                f"names {len(positions)}"
            )
        if len(positions) == self.request.frames:
            raise ValueError(
                f"{counted(len(positions), 'context frame')} leave nothing to sample in a video of "
                f"{counted(self.request.frames, 'frame')}"
            )
        return given_frames(self.context, positions, self.request.frames)

    # The strategies.

    def single(self) -> Iterator[Tensor]:
        return single_segment(
            self._denoiser_for(), self._videos(), self.sampling, self.request.frames,
            settings=Segment(context=self._context(), use=self._use()), callback=self.meter,
        )  # fmt: skip

    def sparse(self) -> Iterator[Tensor]:
        return sparse_first(
            self._denoisers(self.model), self._videos(), self.sampling, self.request.frames,
            self._sparse_first(), callback=self.meter,
        )  # fmt: skip

    def video_to_video(self) -> Iterator[Tensor]:
        video = self._latents(self.strategy.latent, "frames of latent")
        if video.shape[1] != self.request.frames:
            raise ValueError(
                f"latent has {counted(video.shape[1], 'frame')}, but the video has "
                f"{self.request.frames}: set frames to {video.shape[1]}"
            )
        size = len(video), *self.size[1:]
        if self.strategy.windows == SLIDING_WINDOWS:
            # Every frame has its own noise: the video itself makes distant frames consistent.
            windows = self._windows(free_noise=False, x0=video)
            return sliding(
                self._denoisers(self.model), size, self.sampling, self.request.frames,
                windows=windows, callback=self.meter,
            )  # fmt: skip
        return single_segment(
            self._denoisers(self.model), size, self.sampling, self.request.frames,
            settings=Segment(x0=video), callback=self.meter,
        )  # fmt: skip

    def sliding(self) -> Iterator[Tensor]:
        windows = self._windows(
            free_noise=self.strategy.free_noise, context=self._context(), use=self._use()
        )
        return sliding(
            self._denoiser_for(), self._videos(), self.sampling, self.request.frames,
            windows=windows, callback=self.meter,
        )  # fmt: skip

    def _windows(self, **more: Any) -> SlidingWindows:
        strategy = self.strategy
        return SlidingWindows(
            window=strategy.window, overlap=strategy.overlap, schedule=strategy.window_schedule,
            fuse=strategy.fuse, strides=strategy.strides, reference=self.facts.reference, **more,
        )  # fmt: skip

    def rolling(self) -> Iterator[Tensor]:
        return rolling(
            self._denoisers(self.model), self._videos(), self.sampling, self.request.frames,
            settings=rolling_settings(self.facts, self.strategy), callback=self.meter,
        )  # fmt: skip

    def predicted(self) -> Iterator[Tensor]:
        return prediction(
            self._denoiser_for(), self._videos(), self.sampling, self.request.frames,
            settings=self._continuation(), callback=self.meter,
        )  # fmt: skip

    def hierarchical(self) -> Iterator[Tensor]:
        common = self._denoiser_for(), self._videos(), self.sampling, self.request.frames
        if self.strategy.as_published:
            script = script_for(self.host, self.facts, self.request, self.context is not None)
            return script.run(*common, self._between(), callback=self.meter)
        how = Hierarchy(keys=self._continuation(), between=self._between())
        return hierarchical(*common, settings=how, callback=self.meter)

    def _continuation(self) -> Continuation:
        return Continuation(
            window=self.strategy.window, context=self.strategy.context_frames, use=self._use(),
            first=self._sparse_first(), given=self.context, match=self.strategy.match_colours,
            reference=self.facts.reference,
        )  # fmt: skip

    def _between(self) -> Between:
        model = self.strategy.interpolation_model
        check_takes_context(self.host, model)
        check_same_latents(*map(self.host.facts, (self.model, model)))
        return Between(
            denoiser_for=self._denoisers(model), sampling=self._sampling(model, self.settings),
            window_keys=trained_keys(self.host.facts(model).trained_frames),
            use=self._between_use(),
            passes=self.strategy.passes,
        )  # fmt: skip

    def _between_use(self) -> ContextUse:
        """How keyframes are used: as context frames are if the network has them in place in x, else
        without guidance and perturbation."""
        facts = self.host.facts(self.strategy.interpolation_model)
        return replace(self._use(), in_place=True) if facts.in_place else ContextUse()

    def _videos(self) -> tuple[int, int, int, int]:
        return (1 if self.context is None else len(self.context), *self.size[1:])


@dataclass(frozen=True)
class _ByContext(ScopedDenoisers):
    """Denoisers of one model for segments without context frames, of another for those with."""

    alone: DenoiserFor
    continuing: DenoiserFor

    def _of(self, condition: SegmentCondition) -> DenoiserFor:
        return self.alone if condition.context is None else self.continuing

    def __call__(self, condition: SegmentCondition) -> Denoiser:
        return self._of(condition)(condition)

    def sampling(self, planned: Evaluations, run: Callable[[], Tensor]) -> Tensor:
        return in_scope(self._of(planned.condition), planned, run)


# --------------------------------------------------------------------------------------------------
# Checks.


def _latent_size(facts: ModelFacts, width: int, height: int) -> tuple[int, int, int, int]:
    f = facts.factor
    if width % f or height % f or min(width, height) < f:
        raise ValueError(f"the size {width}x{height} must be divisible by {f} on both sides")
    return 1, facts.latent_channels, height // f, width // f


def check_can_begin(facts: ModelFacts, strategy: Strategy, given: bool) -> None:
    """Raise ValueError if segments begin with frames that the model cannot take, or take so."""
    if (given or strategy.name in CONTINUING) and not facts.continues:
        raise ValueError(CANNOT_BE_GIVEN_FRAMES)
    if not facts.begins_with_image:
        return
    for name, value, only in (("context_frames", strategy.context_frames, 1),
                              ("context_guidance", strategy.context_guidance, 1.0),
                              ("perturbation", strategy.perturbation, 0)):  # fmt: skip
        if value != only:
            raise ValueError(
                f"the model continues the last frame alone, as its start image: {name} is "
                f"{value:g} but must be {only:g}"
            )


def check_takes_context(host: Host, model: Wire) -> None:
    if not host.facts(model).takes_context:
        raise ValueError(CANNOT_BE_GIVEN_FRAMES)
