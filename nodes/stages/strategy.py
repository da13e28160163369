"""The Video Sampler's strategy, read from its dynamic combo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..choices import ALL_TOGETHER, CONTINUING, SLIDING_WINDOWS, SPARSE_FIRST, WHOLE
from ..host.shared.misfits import without_effect

if TYPE_CHECKING:
    from ..host.interface import Host, ModelFacts


@dataclass(frozen=True, kw_only=True)
class Sparse:
    """Settings of segments sampled sparse first; see the inputs of these names."""

    first_frames: int
    fill_steps: int
    fill_denoise: float


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """A strategy with its settings; settings of other strategies have no effect. Lengths are in
    frames.

    windows: for video to video, all frames together or sliding windows. sparse: how a segment
    without context frames is sampled, None for all frames together. as_published: follow the
    model's published script. latent: the input of video to video.
    """

    name: str
    window: int = 16
    overlap: int = 0
    windows: str = ALL_TOGETHER
    window_schedule: str = "static"
    fuse: str = "pyramid"
    strides: int = 1
    free_noise: bool = True
    context_frames: int = 1
    context_positions: str = ""
    hold_context: bool = False
    context_guidance: float = 1.0
    perturbation: int = 0
    passes: int = 1
    as_published: bool = False
    denoise: float = 1.0
    match_colours: float = 0.0
    lookahead: bool = True
    eta: float = 0.0
    sparse: Sparse | None = None
    latent: Any = None
    prediction_model: Any = None
    interpolation_model: Any = None

    @property
    def has_segments(self) -> bool:
        """Whether the model sees windows or segments, not all frames together."""
        return self.name not in WHOLE or self.windows == SLIDING_WINDOWS

    @property
    def is_streamed(self) -> bool:
        """Whether chunks are finished one after the other and add up to the requested length."""
        return self.name in CONTINUING and not self.as_published


def read_strategy(chosen: Mapping[str, Any]) -> Strategy:
    """Read the value of the dynamic combo, {"strategy": name, ...} with the settings by name."""
    # ComfyUI passes None for optional inputs that a prompt omits.
    settings = {key: value for key, value in chosen.items() if value is not None}
    name = settings.pop("strategy")
    settings |= {k: v for k, v in settings.pop("windows", {}).items() if v is not None}
    first = settings.pop("first_segment", settings)
    if SPARSE_FIRST in (name, first.get("first_segment")):
        names = Sparse.__dataclass_fields__
        sparse = Sparse(**{name: first[name] for name in names})
        settings = {key: value for key, value in settings.items() if key not in names}
    else:
        sparse = None
    return Strategy(name=name, sparse=sparse, **settings)


def ignored_settings(host: Host, facts: ModelFacts, strategy: Strategy) -> list[str]:
    """Warnings of FreeInit and a Reference Window on the strategy's other models: predicted
    segments have those of the sampler's model, frames in between have none."""
    found = []
    if strategy.prediction_model is not None:
        other = host.facts(strategy.prediction_model)
        alike = {name: None for name in ("free_init", "reference")
                 if getattr(other, name) == getattr(facts, name)}  # fmt: skip
        found += without_effect(replace(other, **alike), strategy.name, "the prediction_model")
    if strategy.interpolation_model is not None:
        other = host.facts(strategy.interpolation_model)
        found += without_effect(other, strategy.name, "the interpolation_model")
    return found


def flat(strategy: Strategy) -> dict[str, Any]:
    """The settings by input name, for the rules of `checks`."""
    values = vars(strategy) | {"strategy": strategy.name}
    if strategy.sparse is not None:
        first = {} if strategy.name == SPARSE_FIRST else {"first_segment": SPARSE_FIRST}
        values |= vars(strategy.sparse) | first
    return values
