"""Image prompts, for models conditioned on text and an image."""

from __future__ import annotations

from .host import host, io
from .inputs import integer, prompts


class ImagePrompt(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoLDM_ImagePrompt",
            display_name="Image Prompt",
            category="VideoLDM/prompt",
            description="Adds an image to a prompt, for image-to-video models that read both. The "
            "negative conditioning gets a grey image. Works with KSampler, too.",
            search_aliases=["videocrafter i2v", "image to video", "img2vid", "i2v", "ip adapter"],
            inputs=[
                *prompts(),
                io.ClipVision.Input(
                    "clip_vision", tooltip="The image encoder that was loaded with the model."
                ),
                io.Image.Input(
                    "image", tooltip="What the video shows; the first of several images."
                ),
                integer(
                    "fps", 8, 1, 60,
                    "Frame rate that the motion is meant for, for models that take one.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    "positive", display_name="positive", tooltip="The prompt with the image."
                ),
                io.Conditioning.Output(
                    "negative", display_name="negative",
                    tooltip="The negative prompt with a grey image, for guidance.",
                ),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, positive, negative, clip_vision, image, fps) -> io.NodeOutput:
        from .stages.image_prompt import with_image_prompt

        made = with_image_prompt(host, (positive, negative), clip_vision, image, fps)
        return io.NodeOutput(*made)
