"""The video sampler."""

from __future__ import annotations

from .checks import sampler_faults, verdict
from .host import host, io
from .host.shared.working_memory import NETWORKS
from .inputs import (
    MAX_FRAMES,
    MAX_SIZE,
    cfg_as_published,
    integer,
    latent_wanted,
    number,
    prompts,
    sampler_as_published,
    schedule,
    seed,
    steps_as_published,
)
from .strategies import strategy

SETTINGS = ("steps", "sampler_name", "schedule", "seed")


class VideoSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoLDM_VideoSampler",
            display_name="Video Sampler",
            category="VideoLDM/sample",
            description="Samples the latents of a video from prompts, and from given frames if "
            "there are any. The strategy decides how a video longer than the model sees at once is "
            "made. Latents stay in GPU memory for the next stage while there is room, and always "
            "with --gpu-only.",
            search_aliases=[
                "txt2vid", "text to video", "t2v", "img2vid", "image to video", "i2v", "vid2vid",
                "animatediff", "ksampler", "video sampler", "long video", "context windows",
                "freenoise", "lavie", "lvdm",
            ],
            inputs=[
                io.Model.Input(
                    "model", lazy=True,
                    tooltip="An image model with temporal layers injected, or a video model.",
                    extra_dict={"videoldm_networks": NETWORKS},  # For the browser's estimate.
                ),
                *prompts(lazy=True),
                integer("width", 64, 16, MAX_SIZE, "Width of the video in pixels.", step=8),
                integer("height", 64, 16, MAX_SIZE, "Height of the video in pixels.", step=8),
                integer(
                    "frames", 16, 1, MAX_FRAMES,
                    "Number of frames in the video, including given frames.",
                ),
                steps_as_published(),
                cfg_as_published(),
                number(
                    "guidance_rescale", 0.0, 0.0, 1.0,
                    "Lowers the contrast that strong guidance raises; 0.7 is usual, 0 is off.",
                    advanced=True,
                ),
                sampler_as_published(),
                schedule(),
                seed(),
                strategy(),
                io.Latent.Input(
                    "context", optional=True, lazy=True,
                    tooltip="What the video begins with: one encoded image, or the frames of a "
                    "video. Not for sparse first, video to video and rolling.",
                ),
            ],
            outputs=[io.Latent.Output(tooltip="The latents of the video.")],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, **given):
        return verdict(cls, sampler_faults, **given)

    @classmethod
    def check_lazy_status(cls, **given):
        return latent_wanted(given)

    @classmethod
    def execute(cls, **inputs) -> io.NodeOutput:
        from .host.shared.finished_stages import latent_if_finished

        if finished := latent_if_finished(host, inputs):
            return _cached_output(*finished)
        return _sampled(**inputs)


def _sampled(model, positive, negative, **inputs) -> io.NodeOutput:
    from .stages.sampling import Settings, VideoRequest, sample_video
    from .stages.shown import store_and_report
    from .stages.strategy import read_strategy

    settings = Settings(**{name: inputs.pop(name) for name in SETTINGS})
    request = VideoRequest(strategy=read_strategy(inputs.pop("strategy")), **inputs)
    video = sample_video(host, model, (positive, negative), request, settings)
    return io.NodeOutput(video.latent, ui=store_and_report(host, model, video))


def _cached_output(latent, known) -> io.NodeOutput:
    from .stages.shown import cached_report

    return io.NodeOutput(latent, ui=cached_report(host, known["shown"]))
