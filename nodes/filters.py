"""Video filters, applied chunk by chunk while the video is saved."""

from __future__ import annotations

from .host import host, io
from .inputs import frames_or_video, integer, number
from .types import OpticalFlowType

CATEGORY = "VideoLDM/video"


class RestoreKeyframeDetail(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoLDM_KeyframeResidual",
            display_name="Restore Keyframe Detail",
            category=CATEGORY,
            description="Restores the detail that the VAE lost in the keyframes of an interpolated "
            "video: keyframes come out exactly as they were, and their residual is added to the "
            "frames between them.",
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
            "back. Finer detail is kept. Leave it out if the frames have flaws that should "
            "disappear.",
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


class Deflicker(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoLDM_Deflicker",
            display_name="Deflicker Along Motion",
            category=CATEGORY,
            description="Reduces flicker in a video: each frame is pulled towards the previous "
            "one, moved along the motion between them, wherever both show the same. A guide that "
            "flickers less, such as the frames before upscaling, tells where that is.",
            search_aliases=[
                "video deflicker", "temporal consistency", "optical flow", "reduce flicker",
            ],
            inputs=[
                io.Video.Input("video", tooltip="The video that flickers."),
                number(
                    "strength", 0.5, 0.0, 0.95, "Share of the previous frame in a frame, where "
                    "both show the same; 0 changes nothing.",
                ),
                number(
                    "threshold", 0.05, 0.01, 1.0, "Difference between the guide's pixels, as a "
                    "fraction of their range, above which two frames no longer count as showing "
                    "the same: higher removes more flicker and blurs more.", step=0.01,
                ),
                frames_or_video(
                    "guide", "The same video with less flicker, of any size, such as the frames "
                    "before upscaling. Empty: the video itself.", optional=True,
                ),
                OpticalFlowType.Input(
                    "optical_flow", optional=True,
                    tooltip="A model that estimates motion, such as the one from ComfyUI's Load "
                    "Optical Flow Model. Empty: motion is estimated from gradients, without a "
                    "model.",
                ),
            ],
            outputs=[io.Video.Output(tooltip="The video with less flicker.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, video, strength, threshold, guide=None, optical_flow=None) -> io.NodeOutput:
        from .stages.filtering import deflicker

        settings = dict(strength=strength, threshold=threshold)
        return io.NodeOutput(deflicker(host, video, guide, optical_flow, settings))


class OpticalFlow(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoLDM_OpticalFlow",
            display_name="Optical Flow from Gradients",
            category=CATEGORY,
            description="An OPTICAL_FLOW that needs no file: motion is estimated from the frames' "
            "gradients (Lucas and Kanade, over a pyramid). For ComfyUI's Video Deflicker and other "
            "nodes that take one; good for motion of a few pixels per frame.",
            search_aliases=["lucas kanade", "raft", "motion estimation", "load optical flow"],
            inputs=[
                number(
                    "radius", 2.0, 0.5, 8.0, "Size of the neighbourhood that is taken to move "
                    "together: standard deviation of a Gaussian window, in pixels. Larger is "
                    "steadier, but follows small objects less closely.", step=0.5,
                ),
            ],
            outputs=[OpticalFlowType.Output(tooltip="A model that estimates motion.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, radius) -> io.NodeOutput:
        from .stages.filtering import optical_flow

        return io.NodeOutput(optical_flow(host, radius))
