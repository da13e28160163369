"""The start image of image-to-video models."""

from __future__ import annotations

from .choices import FITS
from .host import host, io
from .inputs import MAX_SIZE, integer, number


class StartImage(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoLDM_StartImage",
            display_name="Start Image",
            category="VideoLDM/prompt",
            description="Encodes the image that an image-to-video model animates, with the "
            "frame rate and the amount of motion. The conditionings also work with KSampler.",
            search_aliases=[
                "svd img2vid conditioning", "stable video diffusion", "image to video", "img2vid",
                "i2v", "motion bucket", "init image",
            ],
            inputs=[
                io.ClipVision.Input(
                    "clip_vision", tooltip="The image encoder that was loaded with the model."
                ),
                io.Vae.Input("vae", tooltip="The VAE that was loaded with the model."),
                io.Image.Input(
                    "image", tooltip="The image that the video begins with; the first of several."
                ),
                integer("width", 1024, 16, MAX_SIZE, "Width of the video in pixels.", step=8),
                integer("height", 576, 16, MAX_SIZE, "Height of the video in pixels.", step=8),
                io.Combo.Input(
                    "fit", options=list(FITS), default=FITS[0],
                    tooltip="How an image with another aspect ratio is made to fit: cropped or "
                    "stretched.",
                ),
                integer("fps", 7, 1, 60, "Frame rate that the motion is meant for."),
                integer(
                    "motion", 127, 1, 1023,
                    "Motion bucket: higher moves more. Models were trained on 1 to 255.",
                ),
                number(
                    "augmentation", 0.02, 0.0, 10.0,
                    "Standard deviation of noise added to the image, for pixels from -1 to 1. The "
                    "model is told; more lets the video depart further.", step=0.01, advanced=True,
                ),
                integer("seed", 0, 0, 2**53 - 1, "Seed of that noise.", advanced=True),
            ],
            outputs=[
                io.Conditioning.Output(
                    "positive", display_name="positive", tooltip="The encoded image with its "
                    "settings."
                ),
                io.Conditioning.Output(
                    "negative", display_name="negative",
                    tooltip="The same settings without the image, for guidance.",
                ),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, clip_vision, vae, image, **settings) -> io.NodeOutput:
        from .stages.start_image import StartSettings, encode_start_image

        made = encode_start_image(host, clip_vision, vae, image, StartSettings(**settings))
        return io.NodeOutput(*made)
