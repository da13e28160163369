"""Stand-ins for ComfyUI's nodes around models that animate a start image."""

from __future__ import annotations

from collections.abc import Callable

from ..shared.checkpoint_hints import CheckpointHints
from . import io
from .host import host

MAX_RESOLUTION = 16384


class ImageOnlyCheckpointLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImageOnlyCheckpointLoader",
            display_name="Load Checkpoint Image Only (img2vid model)",
            category="model/loaders",
            description="Loads the model, the image encoder and the VAE of one checkpoint file.",
            inputs=[
                io.Combo.Input(
                    "ckpt_name", options=host.folders.model_names("checkpoints"),
                    tooltip="A file of models/checkpoints.",
                ),
            ],
            outputs=[io.Model.Output(), io.ClipVision.Output(), io.Vae.Output()],
        )  # fmt: skip

    @classmethod
    def execute(cls, ckpt_name: str) -> io.NodeOutput:
        model, _, clip_vision, vae, *_ = host.load_video_model(ckpt_name, CheckpointHints())
        return io.NodeOutput(model, clip_vision, vae)


class SVD_img2vid_Conditioning(io.ComfyNode):  # noqa: N801 (ComfyUI's id)
    @classmethod
    def define_schema(cls) -> io.Schema:
        side = {"min": 16, "max": MAX_RESOLUTION, "step": 8}
        return io.Schema(
            node_id="SVD_img2vid_Conditioning",
            display_name="SVD_img2vid_Conditioning",
            category="model/conditioning/stable video",
            description="Encodes the start image of a video, and makes empty latents.",
            inputs=[
                io.ClipVision.Input("clip_vision", tooltip="The image encoder."),
                io.Image.Input("init_image", tooltip="The image."),
                io.Vae.Input("vae", tooltip="The VAE."),
                io.Int.Input("width", default=1024, tooltip="Width in pixels.", **side),
                io.Int.Input("height", default=576, tooltip="Height in pixels.", **side),
                io.Int.Input(
                    "video_frames", default=14, min=1, max=4096, tooltip="Number of frames."
                ),
                io.Int.Input(
                    "motion_bucket_id", default=127, min=1, max=1023, advanced=True,
                    tooltip="Amount of motion.",
                ),
                io.Int.Input("fps", default=6, min=1, max=1024, tooltip="Frame rate."),
                io.Float.Input(
                    "augmentation_level", default=0.0, min=0.0, max=10.0, step=0.01, advanced=True,
                    tooltip="Noise added to the image.",
                ),
            ],
            outputs=[
                io.Conditioning.Output("positive"),
                io.Conditioning.Output("negative"),
                io.Latent.Output("latent"),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, clip_vision, init_image, vae, width, height, video_frames, **numbers
                ) -> io.NodeOutput:  # fmt: skip
        from .core_sampling import empty_latent
        from .core_start_image import start_image

        start = start_image(host, clip_vision, vae, init_image, (width, height), **numbers)
        return io.NodeOutput(*start, empty_latent(host, width, height, video_frames))


def _ramp_inputs() -> list[io.Input]:
    return [
        io.Model.Input("model", tooltip="The model that is guided."),
        io.Float.Input(
            "min_cfg", default=1.0, min=0.0, max=100.0, step=0.5, round=0.01, advanced=True,
            tooltip="Guidance at the first frame; the sampler's cfg is the highest.",
        ),
    ]  # fmt: skip


class VideoLinearCFGGuidance(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoLinearCFGGuidance",
            display_name="Video Linear CFG Guidance",
            category="model/sampling/guiders",
            description="Lets the guidance rise from the first frame to the last.",
            inputs=_ramp_inputs(),
            outputs=[io.Model.Output()],
        )

    @classmethod
    def execute(cls, model, min_cfg: float) -> io.NodeOutput:
        return io.NodeOutput(model.with_ramp(_ramp("per_frame_scale", min_cfg)))


class VideoTriangleCFGGuidance(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoTriangleCFGGuidance",
            display_name="Video Triangle CFG Guidance",
            category="model/sampling/guiders",
            description="Lets the guidance rise to the middle frame, and fall again.",
            inputs=_ramp_inputs(),
            outputs=[io.Model.Output()],
        )

    @classmethod
    def execute(cls, model, min_cfg: float) -> io.NodeOutput:
        return io.NodeOutput(model.with_ramp(_ramp("triangular_scale", min_cfg)))


def _ramp(name: str, first: float) -> Callable:
    """The function ramp(cfg, frames) of core's guidance, which is imported on the first call."""

    def ramp(cfg: float, frames: int):
        from ....core.diffusion import guidance

        return getattr(guidance, name)(first, cfg, frames)

    return ramp
