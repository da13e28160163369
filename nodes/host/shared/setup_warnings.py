"""Warnings about settings that run but cannot give a useful result.

Stages apply these rules before their first step, and `videoldm validate` to workflows whose weights
are not loaded. Unknown values (None, 0, "") break no rule.
"""

from __future__ import annotations

from dataclasses import dataclass

from ....core.families import included_layers, usual_settings
from ....core.graph.wording import counted
from ...choices import ALL_TOGETHER, CONTINUING, HIERARCHICAL, ROLLING, SLIDING_WINDOWS, WHOLE

KEY_FRAMES_APART = 4
"""Distance of key frames in frames of the finished video, for one pass of interpolation."""
MADE_FOR = {
    "text to video": "making videos from prompts",
    "prediction": "continuing given frames",
    "interpolation": "filling in frames between others",
    "upsampling": "enlarging videos",
    "image to video": "moving a start image",
}
"""Tasks of temporal layers, in words for messages."""
CANNOT_BE_GIVEN_FRAMES = (
    "the model cannot be given frames: inject temporal layers that were trained for it, such as "
    + " or ".join(f'"{name}"' for name in included_layers("prediction", "interpolation"))
)


@dataclass(frozen=True, kw_only=True)
class LayerFacts:
    """What is known about the temporal layers in a MODEL."""

    present: bool | None = None
    task: str = ""  # a key of MADE_FOR
    trained_frames: int = 0
    takes_context: bool | None = None
    begins_with_image: bool = False  # a whole model that animates the start image of its prompts
    family: str = ""  # published family of the layers


NO_FACTS = LayerFacts()


@dataclass(frozen=True, kw_only=True)
class SamplerSetup:
    """A Video Sampler with its models.

    given: whether it has context frames. windows: for strategies that offer the choice, all frames
    together or in windows. views: whether the windows are inside temporal attention. prediction and
    interpolation: the models of these inputs, None if not connected. sampler, steps, cfg: of the
    run; "" and 0 are unknown.
    """

    model: LayerFacts
    strategy: str
    frames: int = 0
    window: int = 0
    passes: int = 1
    given: bool = False
    windows: str = ALL_TOGETHER
    views: bool = False
    prediction: LayerFacts | None = None
    interpolation: LayerFacts | None = None
    sampler: str = ""
    steps: int = 0
    cfg: float = 0.0

    @property
    def made_first(self) -> int:
        """Frames that the model and the prediction model make: all, or only key frames; 0 is
        unknown."""
        if self.strategy != HIERARCHICAL or not self.frames:
            return self.frames
        return -(-(self.frames - 1) // KEY_FRAMES_APART**self.passes) + 1

    @property
    def together(self) -> int:
        """Frames that are sampled together, 0 is unknown. Segments that continue others are sampled
        whole, even if only a part of the last one is needed."""
        if self.in_windows:
            return min(self.window, self.frames) if self.frames else self.window
        return self.frames if self.strategy in WHOLE else self.window

    @property
    def in_windows(self) -> bool:
        """Whether all frames are denoised together, but evaluated in windows."""
        return SLIDING_WINDOWS in (self.strategy, self.windows)

    @property
    def holds_reference(self) -> bool:
        """Whether the strategy has several windows or segments, so that one can be a reference for
        the others."""
        return self.in_windows or self.strategy in (*CONTINUING, ROLLING)

    @property
    def most_together(self) -> int:
        """Most frames that a network sees together, interpolation between key frames included; 0 is
        unknown."""
        if self.views:
            return self.frames
        between = KEY_FRAMES_APART * KEY_FRAMES_APART + 1
        return max(self.together, between) if self.strategy == HIERARCHICAL else self.together

    @property
    def continues(self) -> bool:
        """Whether a network continues given frames, or those of the segment before."""
        continuing = self.strategy in CONTINUING
        return self.given or (continuing and (not self.frames or self.made_first > self.window))


def sampler_warnings(setup: SamplerSetup) -> list[str]:
    """Warnings for a Video Sampler."""
    found = []
    first = None if setup.given and setup.prediction else setup.model
    if first is not None:
        found += _missing(first, setup.together) or _first_task(first)
    if setup.continues and not found:
        found += _continuing(setup.prediction or setup.model)
    if setup.interpolation and setup.strategy == HIERARCHICAL:
        found += _task(setup.interpolation, ("interpolation",), "the input interpolation_model")
    for layers in dict.fromkeys((setup.prediction, first)):
        found += _sampled_too_long(layers, setup)
        found += _beyond_distilled(layers, setup.sampler, setup.steps, setup.cfg)
    return list(dict.fromkeys(found))


def interpolation_warnings(layers: LayerFacts, window_keys: int) -> list[str]:
    """Warnings for Interpolate Frames; window_keys 0 is as in training."""
    found = _task(layers, ("interpolation",), "Interpolate Frames")
    if layers.trained_frames and window_keys > trained_keys(layers.trained_frames):
        found.append(
            f"window_keys {window_keys} means {KEY_FRAMES_APART * (window_keys - 1) + 1} frames at "
            f"a time, but the temporal layers were trained on {layers.trained_frames} frames: "
            f"set it to {trained_keys(layers.trained_frames)} or to 0"
        )
    return found


def trained_keys(trained_frames: int) -> int:
    """Key frames of the shortest window that is as long as the training videos: 5 for 16 or 17
    frames."""
    return max(-(-(trained_frames - 1) // KEY_FRAMES_APART) + 1, 2)


def upsampling_warnings(layers: LayerFacts, frames: int, chunk: int) -> list[str]:
    """Warnings for Upsample Video."""
    found = _missing(layers, min(frames, chunk)) or _task(layers, ("upsampling",), "Upsample Video")
    if layers.trained_frames and min(frames, chunk) > layers.trained_frames:
        found.append(
            f"{min(frames, chunk)} frames are upsampled together, but the temporal layers were "
            f"trained on {layers.trained_frames} frames: set chunk to {layers.trained_frames}"
        )
    return found


@dataclass(frozen=True, kw_only=True)
class CoreRun:
    """A run of one of ComfyUI's own samplers; "" and 0 are unknown. sampler: the name of its
    function without "sample_"; "ddim" is "euler" too."""

    sampler: str = ""
    steps: int = 0
    cfg: float = 0.0


def core_sampler_warnings(
    layers: LayerFacts, frames: int, run: CoreRun = CoreRun()  # noqa: B008 (frozen)
) -> list[str]:  # fmt: skip
    """Warnings for one of ComfyUI's own samplers, which samples all frames together."""
    if layers.present is False:
        return []  # An image model, for which the batch is a number of images.
    found = _first_task(layers)
    if layers.trained_frames and frames > layers.trained_frames:
        found.append(
            f"{_seen_together(frames, layers.trained_frames)} take at most {layers.trained_frames} "
            "frames, context windows, or the Video Sampler with another strategy"
        )
    return found + _beyond_distilled(layers, run.sampler, run.steps, run.cfg)


def _missing(layers: LayerFacts, together: int) -> list[str]:
    if layers.present is not False or together == 1:
        return []
    return [
        f"the model has no temporal layers, so that its {f'{together} ' if together else ''}frames "
        "will be unrelated: put Inject Temporal Layers between the model "
        "and this node"
    ]


def _first_task(layers: LayerFacts) -> list[str]:
    """Layers for prediction were also trained without context frames."""
    if layers.begins_with_image:
        return []
    return _task(layers, ("text to video", "prediction"), "making a video from a prompt")


def _continuing(layers: LayerFacts) -> list[str]:
    if layers.begins_with_image:
        return []
    if layers.takes_context is False:
        return [CANNOT_BE_GIVEN_FRAMES]
    return _task(layers, ("prediction",), "continuing given frames")


def _task(layers: LayerFacts, fitting: tuple[str, ...], what: str) -> list[str]:
    if not layers.task or layers.task in fitting:
        return []
    return [
        f"the model's temporal layers were trained for {MADE_FOR[layers.task]} ({layers.task}), "
        f"but {what} needs layers for {' or '.join(fitting)}: choose others in Load Temporal Layers"
    ]


def _sampled_too_long(layers: LayerFacts | None, setup: SamplerSetup) -> list[str]:
    trained = layers.trained_frames if layers is not None else 0
    if not trained or setup.together <= trained:
        return []
    begin = _seen_together(setup.together, trained)
    if setup.strategy in WHOLE and not setup.in_windows:
        return [f"{begin} choose at most {trained} frames, or another strategy"]
    return [f"{begin} set window to {trained}"]


def is_distilled(family: str) -> bool:
    """Whether layers of a published family ("" for none) were distilled to a few steps."""
    usual = usual_settings(family) if family else None
    return usual is not None and usual.max_steps is not None


def _beyond_distilled(
    layers: LayerFacts | None, sampler: str = "", steps: int = 0, cfg: float = 0.0
) -> list[str]:
    """A warning for settings that do not suit layers distilled to a few steps."""
    if layers is None or not is_distilled(layers.family):
        return []
    usual = usual_settings(layers.family)
    other = [f"sampler_name is {sampler}"] if sampler not in ("", usual.sampler) else []
    other += [f"steps is {steps}"] if steps > usual.max_steps else []
    other += [f"cfg is {cfg:g}"] if cfg > usual.max_cfg else []
    if not other:
        return []
    return [
        f"the temporal layers were distilled to at most {counted(usual.max_steps, 'step')} of the "
        f"sampler {usual.sampler} at cfg {usual.max_cfg:g} or less, but {' and '.join(other)}"
    ]


def _seen_together(frames: int, trained: int) -> str:
    return (
        f"{frames} frames are sampled together, but the temporal layers were trained on {trained} "
        "frames:"
    )
