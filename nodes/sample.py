"""The video sampler."""

from __future__ import annotations

from .checks import ABSENT, sampler_faults, verdict
from .choices import STRATEGIES
from .host import host, io
from .host.shared.working_memory import NETWORKS
from .inputs import (
    MAX_FRAMES,
    MAX_SIZE,
    cfg,
    context_guidance,
    integer,
    number,
    prompts,
    sampler_name,
    schedule,
    seed,
    steps,
)

SETTINGS = ("steps", "sampler_name", "schedule", "seed", "denoise")


class VideoSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoLDM_VideoSampler",
            display_name="Video Sampler",
            category="VideoLDM/sample",
            description="Makes the latents of a video from prompts, and from given frames if there "
            "are any. Long videos are made in sliding windows, by prediction from the last frames, "
            "or hierarchically: key frames first, then the frames between them. Latents stay in "
            "GPU memory for the next stage as long as there is room, always with --gpu-only.",
            inputs=[
                io.Model.Input(
                    "model", tooltip="An image model with temporal layers in it.",
                    extra_dict={"videoldm_networks": NETWORKS},  # For the browser's estimate.
                ),
                *prompts(),
                integer("width", 64, 16, MAX_SIZE, "Width of the video in pixels.", step=8),
                integer("height", 64, 16, MAX_SIZE, "Height of the video in pixels.", step=8),
                integer("frames", 16, 1, MAX_FRAMES, "Length of the video, given frames included."),
                steps(25),
                cfg(3.0),
                sampler_name(),
                schedule(),
                seed(),
                number(
                    "denoise", 1.0, 0.01, 1.0,
                    "Below 1 the context clip is changed by this much instead of being continued; "
                    "without one, the frames between anchors start from blends of these. Only with "
                    "single clip.", step=0.01,
                ),
                io.Combo.Input(
                    "strategy", options=list(STRATEGIES), default=STRATEGIES[0],
                    tooltip="Single clip: all frames at once. Sliding windows: overlapping windows "
                    "averaged at every step. Prediction: clip after clip, each told the last "
                    "frames. Hierarchical: key frames by prediction, the rest by interpolation.",
                ),
                integer("window", 16, 2, 256, "Frames that the model sees together."),
                integer("overlap", 4, 0, 255, "Frames that neighbouring sliding windows share."),
                io.Boolean.Input(
                    "free_noise", default=True,
                    tooltip="Sliding windows: shuffle the first window's noise over the video, so "
                    "that distant frames resemble each other (FreeNoise).",
                ),
                integer("context_frames", 1, 1, 64, "How many given frames a clip is told."),
                context_guidance(),
                integer(
                    "perturbation", 0, 0, 999,
                    "Noise level put on given frames so that errors are not copied on; 0 is none. "
                    "The layers must have been trained with it.",
                ),
                number(
                    "guidance_rescale", 0.0, 0.0, 1.0,
                    "Keeps the contrast that strong guidance would raise; 0.7 is usual, 0 is off.",
                ),
                integer("passes", 1, 1, 3, "Hierarchical: how often the frames are quadrupled."),
                integer(
                    "anchors", 0, 0, 64,
                    "So many frames, spread over a clip that begins from nothing, are made first, "
                    "by sampler_name, then all others between them, by Euler's method and "
                    "unguided; 0 makes all at once. The layers must have been trained for it, as "
                    "the embedded text to video was. Not for sliding windows.",
                    optional=True,
                ),
                integer(
                    "anchor_steps", 50, 1, 1000, "Denoising steps of the anchors.", optional=True
                ),
                io.Latent.Input(
                    "context", optional=True,
                    tooltip="What the video begins with: one encoded image or a clip.",
                ),
                io.Model.Input(
                    "prediction_model", optional=True,
                    tooltip="A model with prediction layers, for all clips that continue given "
                    "frames. Without it the model itself makes them.",
                ),
                io.Model.Input(
                    "interpolation_model", optional=True,
                    tooltip="A model with interpolation layers, for the strategy hierarchical.",
                ),
            ],
            outputs=[io.Latent.Output()],
        )  # fmt: skip

    @classmethod
    def validate_inputs(
        cls, strategy=ABSENT, frames=ABSENT, window=ABSENT, overlap=ABSENT, context_frames=ABSENT,
        denoise=ABSENT, schedule=ABSENT, anchors=ABSENT, context=ABSENT,
        interpolation_model=ABSENT,
    ):  # fmt: skip
        return verdict(
            cls, sampler_faults, strategy=strategy, frames=frames, window=window, overlap=overlap,
            context_frames=context_frames, denoise=denoise, schedule=schedule, anchors=anchors,
            context=context, interpolation_model=interpolation_model,
        )  # fmt: skip

    @classmethod
    def execute(cls, model, positive, negative, **inputs) -> io.NodeOutput:
        from .stages.sampling import Settings, VideoRequest, sample_video

        settings = Settings(**{name: inputs.pop(name) for name in SETTINGS})
        request = VideoRequest(**inputs)
        return io.NodeOutput(sample_video(host, model, positive, negative, request, settings))
