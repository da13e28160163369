"""Stand-ins for ComfyUI's loaders of diffusion models or text encoders only."""

from __future__ import annotations

from . import io
from .host import host

DTYPES = ("default", "fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2")
# The types of ComfyUI 0.33; for a CLIP-L or CLIP-H file all but two mean the same.
CLIP_TYPES = (
    *("stable_diffusion", "stable_cascade", "sd3", "stable_audio", "mochi", "ltxv", "pixart"),
    *("cosmos", "lumina2", "wan", "hidream", "chroma", "ace", "omnigen2", "qwen_image"),
    *("hunyuan_image", "flux2", "ovis", "longcat_image", "cogvideox", "lens", "pixeldit"),
    *("ideogram4", "boogu", "krea2", "joyimage", "mage", "minimax"),
)
PAIR_TYPES = (
    *("sdxl", "sd3", "flux", "hunyuan_video", "hidream", "hunyuan_image", "hunyuan_video_15"),
    *("kandinsky5", "kandinsky5_image", "ltxv", "newbie", "ace"),
)
"""The types of ComfyUI 0.33 for pairs."""
OTHER_PROMPTS = ("sd3", "hidream")
"""Types with a different format of prompts."""


class UNETLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="UNETLoader",
            display_name="Load Diffusion Model",
            category="model/loaders",
            description="Loads a diffusion model without text encoder and VAE.",
            inputs=[
                io.Combo.Input(
                    "unet_name", options=host.folders.model_names("diffusion_models"),
                    tooltip="A file of models/diffusion_models.",
                ),
                io.Combo.Input(
                    "weight_dtype", options=list(DTYPES), advanced=True,
                    tooltip="fp8 rounds the weights to 8 bits, as ComfyUI stores them.",
                ),
            ],
            outputs=[io.Model.Output()],
        )  # fmt: skip

    @classmethod
    def execute(cls, unet_name: str, weight_dtype: str) -> io.NodeOutput:
        return io.NodeOutput(host.loaders.diffusion_model(unet_name, weight_dtype))


class CLIPLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CLIPLoader",
            display_name="Load CLIP",
            category="model/loaders",
            description="Loads a CLIP text encoder from a file of its own.",
            inputs=[
                io.Combo.Input(
                    "clip_name", options=host.folders.model_names("text_encoders"),
                    tooltip="A file of models/text_encoders.",
                ),
                io.Combo.Input(
                    "type", options=list(CLIP_TYPES), tooltip="What the prompts are for."
                ),
                io.Combo.Input(
                    "device", options=["default", "cpu"], optional=True, advanced=True,
                    tooltip="The device it runs on.",
                ),
            ],
            outputs=[io.Clip.Output()],
        )  # fmt: skip

    @classmethod
    def execute(cls, clip_name: str, type: str = "stable_diffusion", device: str = "default"
                ) -> io.NodeOutput:  # fmt: skip
        if type in OTHER_PROMPTS:
            raise ValueError(
                f"the type {type} needs ComfyUI; here prompts are encoded by CLIP's text encoders, "
                "which is the type stable_diffusion"
            )
        return io.NodeOutput(host.loaders.text_encoder(clip_name, device=device))


class DualCLIPLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        files = {
            "options": host.folders.model_names("text_encoders"),
            "tooltip": "A file of models/text_encoders.",
        }
        return io.Schema(
            node_id="DualCLIPLoader",
            display_name="DualCLIPLoader",
            category="model/loaders",
            description="Loads the two text encoders of SDXL from files of their own, CLIP-L and "
            "OpenCLIP-G in any order.",
            inputs=[
                io.Combo.Input("clip_name1", **files),
                io.Combo.Input("clip_name2", **files),
                io.Combo.Input(
                    "type", options=list(PAIR_TYPES), tooltip="What the prompts are for."
                ),
                io.Combo.Input(
                    "device", options=["default", "cpu"], optional=True, advanced=True,
                    tooltip="The device they run on.",
                ),
            ],
            outputs=[io.Clip.Output()],
        )  # fmt: skip

    @classmethod
    def execute(cls, clip_name1: str, clip_name2: str, type: str, device: str = "default"
                ) -> io.NodeOutput:  # fmt: skip
        if type != PAIR_TYPES[0]:
            raise ValueError(
                f"the type {type} needs ComfyUI; here prompts are encoded by CLIP's text encoders, "
                f"which is the type {PAIR_TYPES[0]}"
            )
        return io.NodeOutput(host.loaders.text_encoder(clip_name1, clip_name2, device=device))
