"""Video upsampling."""

from __future__ import annotations

from .checks import ABSENT, upsampling_faults, verdict
from .choices import BORDERS
from .host import host, io
from .inputs import (
    cfg,
    chunk,
    frames_or_video,
    integer,
    prompts,
    sampler_name,
    schedule,
    seed,
    steps,
)

SETTINGS = ("steps", "sampler_name", "schedule", "seed")


def _borders() -> io.Input:
    return io.Combo.Input(
        "borders", options=list(BORDERS), default=BORDERS[0], optional=True, advanced=True,
        tooltip="Continued: each chunk starts from the end of the one before. Blended: chunks are "
        "sampled side by side and averaged where they overlap, at every step. Independent: chunks "
        "are sampled on their own, as in published scripts. Automatic: blended for published "
        "upsamplers, else continued.",
    )  # fmt: skip


def _same_noise() -> io.Input:
    return io.Boolean.Input(
        "same_noise", default=False, optional=True, advanced=True,
        tooltip="Gives every frame the same noise, so that detail stays still where the video "
        "does. Not from the papers; meant for this pack's own upsampler, which was trained for it.",
    )  # fmt: skip


def _tiles() -> list[io.Input]:
    return [
        integer(
            "tile", 0, 0, 4096,
            "Side of the tiles in pixels of the given frames; 0 takes whole frames.",
            advanced=True,
        ),
        integer(
            "tile_overlap", 8, 0, 1024, "Number of pixels that neighbouring tiles share.",
            advanced=True,
        ),
    ]  # fmt: skip


class UpsampleVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoLDM_UpsampleVideo",
            display_name="Upsample Video",
            category="VideoLDM/sample",
            description="Makes the latents of a video four times as large as the given frames or, "
            "given a video, the larger video itself. Long videos are made in chunks, large frames "
            "in tiles.",
            search_aliases=[
                "upscale video", "video super resolution", "vsr", "enlarge video", "4x upscale",
                "video upscaler",
            ],
            inputs=[
                io.Model.Input("model", lazy=True, tooltip="The model from Load Upsampler."),
                *prompts(lazy=True),
                frames_or_video(
                    "images", "The low-resolution frames, or a video that is read chunk by chunk."
                ),
                steps(6),
                cfg(1.0),
                sampler_name(),
                schedule(),
                seed(),
                integer(
                    "noise_level", 20, 0, 999,
                    "Timestep whose noise is added to the low-resolution frames: higher invents "
                    "more detail.",
                ),
                chunk(16, "upsampled"),
                integer(
                    "overlap", 4, 0, 255, "Number of frames that neighbouring chunks share.",
                    advanced=True,
                ),
                *_tiles(),
                _borders(),
                _same_noise(),
                io.Vae.Input(
                    "vae", optional=True, lazy=True,
                    tooltip="The VAE that decodes the output video; the latents do not need it.",
                ),
            ],
            outputs=[
                io.Latent.Output(tooltip="The latents of the large video."),
                io.Video.Output(
                    tooltip="The large video, decoded while it is saved, with the frame rate and "
                    "the sound of the given one; needs a video connected to images, and a vae."
                ),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(
        cls, chunk=ABSENT, overlap=ABSENT, tile=ABSENT, tile_overlap=ABSENT, borders=ABSENT,
        same_noise=ABSENT,
    ):  # fmt: skip
        return verdict(
            cls, upsampling_faults, chunk=chunk, overlap=overlap, tile=tile,
            tile_overlap=tile_overlap, borders=borders, same_noise=same_noise,
        )  # fmt: skip

    @classmethod
    def check_lazy_status(cls, **given):
        from .stages.upsampled_video import upsampling_wanted

        return upsampling_wanted(host, given)

    @classmethod
    def execute(
        cls, images, model=None, positive=None, negative=None, vae=None, **inputs
    ) -> io.NodeOutput:
        given = {"model": model, "positive": positive, "negative": negative}
        if cached := _cached_output(given, images, vae, **inputs):
            return cached
        from .stages.upsampling import Settings, UpsamplingRequest, upsample_video

        settings = Settings(**{name: inputs.pop(name) for name in SETTINGS})
        wires, request = (model, (positive, negative), images), UpsamplingRequest(**inputs)
        return io.NodeOutput(*upsample_video(host, *wires, request, settings, vae))


def _cached_output(given, images, vae, *, chunk, tile, **_) -> io.NodeOutput | None:
    from .host.shared.finished_stages import skips_inputs
    from .stages.upsampled_video import cached_upsampling

    if not skips_inputs(host, given):
        return None
    return io.NodeOutput(*cached_upsampling(host, images, chunk, tile, vae))
