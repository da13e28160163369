"""Making videos: the four strategies of the video sampler."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ...core.anchors import Anchors, last_step
from ...core.clip_condition import (
    ClipCondition,
    ContextUse,
    DenoiserFor,
    Evaluations,
    Perturbation,
    ScopedDenoisers,
    in_scope,
)
from ...core.context_frames import ContextFrames, given_frames
from ...core.denoiser import Denoiser
from ...core.families.known_models import of_latents
from ...core.long_video import Between, Continuation, hierarchical, prediction, single_clip
from ...core.sliding import SlidingWindows, sliding
from ..checks import require, sampler_faults
from ..host.interface import Guidance
from ..host.shared.setup_warnings import (
    CANNOT_BE_GIVEN_FRAMES,
    SamplerSetup,
    sampler_warnings,
    trained_keys,
)
from .running import Meter, Settings, collect, require_room, sampling_for

if TYPE_CHECKING:
    from ..host.interface import Host, ModelFacts, Wire


@dataclass(frozen=True, kw_only=True)
class VideoRequest:
    """What the video sampler's inputs say; sizes in pixels, lengths in frames."""

    width: int
    height: int
    frames: int
    cfg: float
    guidance_rescale: float
    strategy: str
    window: int
    overlap: int
    free_noise: bool
    context_frames: int
    context_guidance: float
    perturbation: int
    passes: int
    anchors: int = 0
    anchor_steps: int = 50
    context: Any = None
    prediction_model: Any = None
    interpolation_model: Any = None


def sample_video(
    host: Host, model: Wire, positive: list, negative: list, request: VideoRequest,
    settings: Settings,
) -> dict[str, Any]:  # fmt: skip
    """Make a video and return its LATENT; everything is checked before the first step."""
    values = vars(request) | vars(settings)
    require(sampler_faults, values, [name for name, value in values.items() if value is not None])
    run = _Run(host, model, positive, negative, request, settings)
    with_model = {
        "single clip": run.single,
        "sliding windows": run.sliding,
        "prediction": run.predicted,
        "hierarchical": run.hierarchical,
    }
    if request.strategy not in with_model:
        known = ", ".join(with_model)
        raise ValueError(f"strategy {request.strategy!r} must be one of {known}")
    chunks = with_model[request.strategy]()
    return host.from_core(model, collect(host, model, chunks))


class _Run:
    """One call of the video sampler, with its inputs checked and translated."""

    def __init__(self, host: Host, model: Wire, positive: list, negative: list,
                 request: VideoRequest, settings: Settings):  # fmt: skip
        self.host, self.model, self.request = host, model, request
        self.prompts = positive, negative
        self.facts = host.facts(model)
        self.size = _latent_size(self.facts, request.width, request.height)
        self.settings = settings
        self.sampling = sampling_for(host, model, settings, positive)
        self.meter = Meter(host)
        self.given = self._given()
        self._check()
        setup = self._setup()
        for sentence in sampler_warnings(setup):
            host.warn(sentence)
        size = request.width, request.height
        require_room(host, self.facts, setup.most_together, size, request.cfg)

    def _given(self) -> Tensor | None:
        """The context's latents [b n c h w], checked to be of the video's size."""
        if self.request.context is None:
            return None
        given = self.host.to_core(self.model, self.request.context)
        if given.shape[-2:] != self.size[-2:]:
            f = self.facts.factor
            raise ValueError(
                f"the context frames are {given.shape[-1] * f}x{given.shape[-2] * f} pixels, "
                f"but the video is {self.request.width}x{self.request.height}: set width and "
                "height to theirs, or resize them before they are encoded"
            )
        return given

    def _check(self) -> None:
        if self.facts.is_upsampler:
            raise ValueError("the model is an upsampler: use it in Upsample Video")
        if self.facts.low_res_channels:
            raise ValueError(
                "the model fills in frames between others (LaVie's interpolation): use it in "
                "Interpolate Frames"
            )
        if self.given is not None and self.settings.denoise == 1:
            check_takes_context(self.host, self._predictor)

    def _setup(self) -> SamplerSetup:
        request = self.request
        told, between = (
            model and self.host.facts(model).layers
            for model in (request.prediction_model, request.interpolation_model)
        )
        return SamplerSetup(
            model=self.facts.layers, strategy=request.strategy, frames=request.frames,
            window=request.window, passes=request.passes, prediction=told, interpolation=between,
            given=self.given is not None and self.settings.denoise == 1,
        )  # fmt: skip

    @property
    def _predictor(self) -> Wire:
        return self.request.prediction_model or self.model

    def _denoisers(self, model: Wire, *, guided: bool = True) -> DenoiserFor:
        usual = Guidance(cfg=self.request.cfg, rescale=self.request.guidance_rescale)
        return self.host.denoiser_for(model, *self.prompts, usual if guided else Guidance())

    def _denoiser_for(self) -> DenoiserFor:
        """Clips that are given frames go to the prediction model, if there is one."""
        if self.request.prediction_model is None:
            return self._denoisers(self.model)
        _check_same_latents(self.host, self.model, self.request.prediction_model)
        return _ByContext(
            self._denoisers(self.model), self._denoisers(self.request.prediction_model)
        )

    def _anchors(self) -> Anchors | None:
        """What a clip begins with that is given nothing."""
        if not self.request.anchors or self.given is not None:
            return None
        check_takes_context(self.host, self.model)
        settings = replace(self.settings, steps=self.request.anchor_steps, denoise=1.0)
        return Anchors(
            count=self.request.anchors,
            sampling=sampling_for(self.host, self.model, settings, self.prompts[0]),
            between=self._denoisers(self.model, guided=False),
            from_blend=self.settings.denoise < 1,
            together=last_step(self.facts.schedule),
        )

    def _use(self) -> ContextUse:
        level = self.request.perturbation
        noise = Perturbation(level=level, schedule=self.facts.schedule) if level else None
        return ContextUse(scale=self.request.context_guidance, perturbation=noise)

    def _context(self) -> ContextFrames | None:
        """The last of the given frames as the first of the video."""
        if self.given is None:
            return None
        known = self.given[:, -self.request.context_frames :]
        if known.shape[1] >= self.request.frames:
            raise ValueError(
                f"{known.shape[1]} context frames leave nothing to make in a video of "
                f"{self.request.frames} frames"
            )
        return given_frames(known, range(known.shape[1]), self.request.frames)

    # The strategies.

    def single(self) -> Iterator[Tensor]:
        start = {"context": self._context()} if self.settings.denoise == 1 else {"x0": self.given}
        return single_clip(
            self._denoiser_for(), self._videos(), self.sampling, self.request.frames,
            use=self._use(), anchors=self._anchors(), callback=self.meter, **start,
        )  # fmt: skip

    def sliding(self) -> Iterator[Tensor]:
        windows = SlidingWindows(
            window=self.request.window, overlap=self.request.overlap,
            free_noise=self.request.free_noise,
        )  # fmt: skip
        return sliding(
            self._denoiser_for(), self._videos(), self.sampling, self.request.frames,
            windows=windows, context=self._context(), callback=self.meter,
        )  # fmt: skip

    def predicted(self) -> Iterator[Tensor]:
        return prediction(
            self._denoiser_for(), self._videos(), self.sampling, self.request.frames,
            how=self._continuation(), given=self.given, callback=self.meter,
        )  # fmt: skip

    def hierarchical(self) -> Iterator[Tensor]:
        return hierarchical(
            self._denoiser_for(), self._videos(), self.sampling, self.request.frames,
            how=self._continuation(), between=self._between(), given=self.given,
            callback=self.meter,
        )  # fmt: skip

    def _continuation(self) -> Continuation:
        check_takes_context(self.host, self._predictor)
        return Continuation(
            window=self.request.window, context=self.request.context_frames, use=self._use(),
            anchors=self._anchors(),
        )  # fmt: skip

    def _between(self) -> Between:
        model = self.request.interpolation_model
        check_takes_context(self.host, model)
        _check_same_latents(self.host, self.model, model)
        sampling = sampling_for(self.host, model, self.settings, self.prompts[0])
        return Between(
            denoiser_for=self._denoisers(model), sampling=sampling,
            window_keys=trained_keys(self.host.facts(model).trained_frames),
            passes=self.request.passes,
        )  # fmt: skip

    def _videos(self) -> tuple[int, int, int, int]:
        return (1 if self.given is None else len(self.given), *self.size[1:])


@dataclass(frozen=True)
class _ByContext(ScopedDenoisers):
    """Denoisers of one model for clips that are given no frames, of another for those that are."""

    alone: DenoiserFor
    told: DenoiserFor

    def _of(self, condition: ClipCondition) -> DenoiserFor:
        return self.alone if condition.context is None else self.told

    def __call__(self, condition: ClipCondition) -> Denoiser:
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


def check_takes_context(host: Host, model: Wire) -> None:
    if not host.facts(model).takes_context:
        raise ValueError(CANNOT_BE_GIVEN_FRAMES)


def _check_same_latents(host: Host, one: Wire, other: Wire) -> None:
    a, b = host.facts(one), host.facts(other)
    if (a.latent_channels, a.factor) != (b.latent_channels, b.factor):
        raise ValueError(
            f"the models do not belong together: the latents of one are "
            f"{of_latents(a.latent_channels)} at 1/{a.factor} of the size, of the other "
            f"{of_latents(b.latent_channels)} at 1/{b.factor}"
        )
