"""The Video Sampler's strategies and the settings of each."""

from __future__ import annotations

from .choices import (
    ALL_TOGETHER,
    FUSES,
    HIERARCHICAL,
    PREDICTION,
    ROLLING,
    SINGLE_SEGMENT,
    SLIDING_WINDOWS,
    SPARSE_FIRST,
    VIDEO_TO_VIDEO,
    WINDOW_SCHEDULES,
)
from .host import io
from .inputs import boolean, combo, context_guidance, integer, number


def strategy() -> io.Input:
    """A dynamic combo with the settings of each strategy; the first is the default."""
    opened = {
        SINGLE_SEGMENT: [_context_frames(), context_guidance(), _perturbation(), *_keyframes()],
        SPARSE_FIRST: _sparse(),
        SLIDING_WINDOWS: [
            _window(), _overlap(), _context_frames(), _free_noise(), *_layout(), *_keyframes(),
        ],
        PREDICTION: [*_continuing(), _prediction_model(), _match_colours()],
        HIERARCHICAL: [
            *_continuing(), _passes(), _interpolation_model(), _prediction_model(),
            _match_colours(), _as_published(),
        ],
        VIDEO_TO_VIDEO: [_video(), _denoise(), _windows()],
        ROLLING: [_window(), _lookahead(), _eta()],
    }  # fmt: skip
    return io.DynamicCombo.Input(
        "strategy",
        options=[io.DynamicCombo.Option(name, inputs) for name, inputs in opened.items()],
        tooltip="Single clip: all frames together. Sparse first: a few frames first, then the "
        "frames between them. Sliding windows: overlapping windows, averaged at every step. "
        "Prediction: segment after segment, each given the last frames before it. Hierarchical: "
        "keyframes by prediction, the rest by interpolation. Video to video: re-denoises a video. "
        "Rolling: a queue of frames at rising noise levels, one of which is finished at every "
        "step; any length in the memory of one window.",
    )


def _continuing() -> list[io.Input]:
    return [_window(), _context_frames(), _first_segment(), context_guidance(), _perturbation()]


def _first_segment() -> io.Input:
    options = {ALL_TOGETHER: [], SPARSE_FIRST: _sparse()}
    return io.DynamicCombo.Input(
        "first_segment",
        options=[io.DynamicCombo.Option(name, inputs) for name, inputs in options.items()],
        tooltip="How the first segment is sampled when no frames are given.",
    )


def _sparse() -> list[io.Input]:
    return [
        integer(
            "first_frames", 4, 2, 64,
            "Number of frames sampled first, spread evenly over the segment, with steps, cfg and "
            "sampler_name. The temporal layers must have been trained for it, as the pack's "
            "own text-to-video layers were.",
        ),
        integer(
            "fill_steps", 4, 1, 1000,
            "Number of steps in which the frames between are filled in, with Euler's method and "
            "without guidance.",
        ),
        number(
            "fill_denoise", 0.25, 0.01, 1.0,
            "Below 1, filling in starts from linear blends of the first frames with this share of "
            "the noise levels; 1 starts from noise alone.", step=0.01,
        ),
    ]  # fmt: skip


def _window() -> io.Input:
    return integer(
        "window", 16, 2, 256, "Number of frames that the model sees together; best as many as its "
        "temporal layers were trained on.",
    )  # fmt: skip


def _overlap() -> io.Input:
    return integer("overlap", 4, 0, 255, "Number of frames that neighbouring windows share.")


def _layout() -> list[io.Input]:
    return [
        combo(
            "window_schedule", WINDOW_SCHEDULES,
            "Static: the same windows at every step. Uniform: windows that shift from step to "
            "step. Looped: uniform, running on from the last frame to the first, for videos that "
            "loop. Batched: windows that do not overlap. Views: windows inside the temporal "
            "attention, with all frames in memory together.",
        ),
        combo(
            "fuse", FUSES,
            "How the frames of overlapping windows are weighted: most in the middle of a window "
            "(pyramid, relative), all equally (flat), or falling off within the overlap only "
            "(overlap-linear).",
        ),
        integer(
            "strides", 1, 1, 8, "Number of strides of uniform and looped windows: 2 also lays "
            "windows over every second frame, 3 also over every fourth, and so on.",
            optional=True, advanced=True,
        ),
    ]  # fmt: skip


def _keyframes() -> list[io.Input]:
    return [
        io.String.Input(
            "context_positions", default="", optional=True, advanced=True,
            tooltip="Where in the video the frames of context stand, such as 0, 16, -1; negative "
            "numbers count from the end. Empty: the video begins with the last context_frames of "
            "them.",
        ),
        boolean(
            "hold_context",
            "Also write the frames of context into the noisy latents at every step. For models "
            "that cannot be given frames, this is the only way to keep them.",
        ),
    ]  # fmt: skip


def _windows() -> io.Input:
    options = {ALL_TOGETHER: [], SLIDING_WINDOWS: [_window(), _overlap(), *_layout()]}
    return io.DynamicCombo.Input(
        "windows",
        optional=True,
        options=[io.DynamicCombo.Option(name, inputs) for name, inputs in options.items()],
        tooltip="Whether the model sees all frames together, or windows of a video that is longer "
        "than its temporal layers were trained on.",
    )


def _context_frames() -> io.Input:
    return integer(
        "context_frames", 1, 1, 64,
        "Number of known frames at the start of a segment: the last ones of the context or of the "
        "previous segment.",
    )  # fmt: skip


def _free_noise() -> io.Input:
    return io.Boolean.Input(
        "free_noise", default=True, advanced=True,
        tooltip="FreeNoise: shuffle the first window's noise over the video, so that distant "
        "frames resemble each other.",
    )  # fmt: skip


def _perturbation() -> io.Input:
    return integer(
        "perturbation", 0, 0, 999,
        "Training timestep whose noise is added to known frames, so that their errors are not "
        "copied; 0 is none. The temporal layers must have been trained with it.", advanced=True,
    )  # fmt: skip


def _match_colours() -> io.Input:
    return number(
        "match_colours", 0.0, 0.0, 1.0,
        "How closely the colour and contrast of a segment (mean and deviation of each latent "
        "channel) are matched to the segment before it. Counters colour drift in long "
        "videos; 0 is off.", step=0.05, optional=True, advanced=True,
    )  # fmt: skip


def _lookahead() -> io.Input:
    return io.Boolean.Input(
        "lookahead", default=True,
        tooltip="Denoise every frame together with half a window of cleaner ones: frames agree "
        "better, at twice the time.",
    )  # fmt: skip


def _eta() -> io.Input:
    return number(
        "eta", 0.0, 0.0, 1.0,
        "Share of each step's noise that is drawn afresh: 0 is DDIM, 1 is ancestral sampling. "
        "sampler_name only applies to the first window.", advanced=True,
    )  # fmt: skip


def _passes() -> io.Input:
    return integer(
        "passes", 1, 1, 3, "Number of interpolation passes; each quadruples the frame count.",
    )  # fmt: skip


def _as_published() -> io.Input:
    return boolean(
        "as_published",
        "Follow the authors' own script for long videos, mistakes included, to reproduce their "
        "results (for models published with one): the model is told that all frames of a predicted "
        "window are known, and only a third of the gaps between keyframes are filled in, so the "
        "video is shorter.",
    )  # fmt: skip


def _interpolation_model() -> io.Input:
    return io.Model.Input(
        "interpolation_model",
        lazy=True,
        tooltip="A model with interpolation layers, for the frames between keyframes.",
    )


def _prediction_model() -> io.Input:
    return io.Model.Input(
        "prediction_model", optional=True, lazy=True,
        tooltip="A model with prediction layers, for segments that begin with known frames. "
        "Without it, the node's model samples them, too.",
    )  # fmt: skip


def _video() -> io.Input:
    return io.Latent.Input(
        "latent", tooltip="The video to change; it must have the same number of frames."
    )


def _denoise() -> io.Input:
    return number(
        "denoise", 0.5, 0.01, 1.0,
        "How much the video is changed: the share of the noise levels that it goes through again, "
        "with the full number of steps.", step=0.01,
    )  # fmt: skip
