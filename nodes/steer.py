"""Control of temporal layers: keyframe images, camera motion, SparseCtrl."""

from __future__ import annotations

from .checks import ABSENT, camera_faults, frame_faults, verdict
from .choices import IMAGE_MOTIONS
from .host import host, io
from .inputs import MAX_FRAMES, integer, number
from .types import ControlNetType

CATEGORY = "VideoLDM/model"


class KeyframeImages(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoLDM_KeyframeImages",
            display_name="Keyframe Images",
            category=CATEGORY,
            description="Gives images to temporal layers that have an input for them (PIA, "
            "AnimateLCM for images): every frame continues the nearest one. Also works with "
            "KSampler and in context windows.",
            search_aliases=[
                "image to video", "img2vid", "i2v", "pia", "animatelcm i2v", "animate an image",
                "start image", "pia input", "ref drift",
            ],
            inputs=[
                io.Model.Input("model", tooltip="A model with layers for image to video in it."),
                io.Latent.Input(
                    "images", tooltip="Encoded images of the video's size, one per keyframe."
                ),
                io.String.Input(
                    "frames", default="0",
                    tooltip="Numbers of the frames that the images stand at, such as 0, 15.",
                ),
                io.Combo.Input(
                    "motion", options=list(IMAGE_MOTIONS), default=IMAGE_MOTIONS[0],
                    tooltip="How far frames may depart from the image, for layers with presets for "
                    "it (PIA). The loop presets close after 16 frames.",
                ),
                number(
                    "motion_scale", 0.8, 0.0, 2.0, "How much frames differ, for layers that "
                    "number them (AnimateLCM for images): higher moves more.", advanced=True,
                ),
            ],
            outputs=[io.Model.Output(tooltip="The model with images to continue.")],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, frames=ABSENT):
        return verdict(cls, frame_faults, frames=frames)

    @classmethod
    def execute(cls, model, images, frames, motion, motion_scale) -> io.NodeOutput:
        from .stages.steering import with_keyframes

        settings = frames, motion, motion_scale
        return io.NodeOutput(with_keyframes(host, model, images, *settings))


class CameraControl(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoLDM_CameraControl",
            display_name="Camera Control",
            category=CATEGORY,
            description="Makes motion modules follow a camera (CameraCtrl), given by moves in "
            "words or by camera poses. Frames are counted in the whole video, in every window.",
            search_aliases=[
                "cameractrl", "camera motion", "camera poses", "pan", "zoom", "roll", "tilt",
                "apply cameractrl", "set cameractrl keyframe",
            ],
            inputs=[
                io.Model.Input("model", tooltip="A model with motion modules in it."),
                io.Combo.Input(
                    "weights", options=host.folders.model_names("videoldm"),
                    tooltip="CameraCtrl's file, in models/videoldm.",
                ),
                io.String.Input(
                    "moves", default="0-15: zoom in 0.5, pan left 10", multiline=True,
                    tooltip="A line per range of frames: pan, truck left/right, tilt, pedestal "
                    "up/down, zoom in/out, roll clockwise/anticlockwise, each with an optional "
                    "amount (turns in degrees, shifts roughly in metres). Or camera poses, 19 "
                    "numbers on a line for each frame, as in RealEstate10K.",
                ),
                integer("frames", 16, 1, MAX_FRAMES, "Number of frames of the video."),
                number("strength", 1.0, 0.0, 4.0, "How closely the camera is followed; 0 is off."),
            ],
            outputs=[io.Model.Output(tooltip="The model that follows the camera.")],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, moves=ABSENT, frames=ABSENT):
        return verdict(cls, camera_faults, moves=moves, frames=frames)

    @classmethod
    def execute(cls, model, weights, moves, frames, strength) -> io.NodeOutput:
        from .stages.steering import with_camera

        return io.NodeOutput(with_camera(host, model, weights, moves, frames, strength))


class LoadSparseControl(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoLDM_LoadSparseControl",
            display_name="Load SparseCtrl",
            category="VideoLDM/load",
            description="Loads a ControlNet whose frames see each other (SparseCtrl): images or "
            "scribbles for a few frames guide all of them. Connect it to Apply ControlNet, with "
            "one image for each frame named here.",
            search_aliases=[
                "sparsectrl", "sparse control", "load sparsectrl model", "scribble keyframes",
                "image to video", "sparse index method",
            ],
            inputs=[
                io.Combo.Input(
                    "control_net", options=host.folders.model_names("controlnet"),
                    tooltip="SparseCtrl's file, in models/controlnet.",
                ),
                io.String.Input(
                    "frames", default="0",
                    tooltip="Numbers of the frames that the images are for, such as 0, 8, 15, "
                    "counted from the beginning of the video in every window.",
                ),
            ],
            outputs=[
                ControlNetType.Output(
                    "control_net", display_name="control_net",
                    tooltip="For Apply ControlNet; the file for images also needs a VAE there."
                )
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, frames=ABSENT):
        return verdict(cls, frame_faults, frames=frames)

    @classmethod
    def execute(cls, control_net, frames) -> io.NodeOutput:
        from .stages.texts import absolute_frames

        return io.NodeOutput(host.load_sparse_control(control_net, absolute_frames(frames)))
