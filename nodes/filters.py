"""Filters: a video in, a video out, changed while it is saved."""

from __future__ import annotations

from .host import host, io
from .inputs import frames_or_video, integer

CATEGORY = "VideoLDM/video"


class RestoreKeyframeDetail(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoLDM_KeyframeResidual",
            display_name="Restore Keyframe Detail",
            category=CATEGORY,
            description="Restores in an interpolated video what the VAE lost of its keyframes: "
            "keyframes come out exactly, and their residual is added to the frames between them.",
            search_aliases=[
                "keyframe residual", "sharpen video", "detail restore", "vae detail", "deblur",
            ],
            inputs=[
                io.Video.Input("video", tooltip="The interpolated video."),
                io.Image.Input(
                    "key_frames", tooltip="The original frames that were interpolated between."
                ),
                integer(
                    "key_spacing", 4, 1, 64,
                    "Number of frames from one keyframe to the next: 4 after one pass of "
                    "Interpolate Frames, 16 after two.",
                ),
            ],
            outputs=[io.Video.Output(tooltip="The video with its keyframes' detail.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, video, key_frames, key_spacing) -> io.NodeOutput:
        from .stages.filtering import restore_keyframes

        return io.NodeOutput(restore_keyframes(host, video, key_frames, key_spacing))


class BackProjectLowResolution(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoLDM_BackProjection",
            display_name="Back-Project Low Resolution",
            category=CATEGORY,
            description="Makes an upsampled video consistent with the frames that it was made from "
            "(iterated back-projection): the residual after downscaling is upscaled and added "
            "back. Finer detail stays. Leave it out where the frames have flaws that should go.",
            search_aliases=[
                "back projection", "upscale consistency", "color match", "super resolution",
            ],
            inputs=[
                io.Video.Input("video", tooltip="The upsampled video."),
                frames_or_video("images", "The low-resolution frames or video it was made from."),
            ],
            outputs=[io.Video.Output(tooltip="The consistent video.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, video, images) -> io.NodeOutput:
        from .stages.filtering import back_project

        return io.NodeOutput(back_project(host, video, images))
