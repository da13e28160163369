"""Stand-in for ComfyUI's node for SDXL prompts."""

from __future__ import annotations

from . import io

MAX_RESOLUTION = 16384


def _side(name: str, default: int, tooltip: str, **more: bool) -> io.Input:
    return io.Int.Input(
        name, default=default, min=0, max=MAX_RESOLUTION, tooltip=f"{tooltip}, in pixels.", **more
    )


class CLIPTextEncodeSDXL(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        text = {"multiline": True, "dynamic_prompts": True}
        return io.Schema(
            node_id="CLIPTextEncodeSDXL",
            display_name="CLIP Text Encode (SDXL)",
            category="model/conditioning/stable diffusion",
            description="Encodes a prompt for each text encoder of SDXL, with the original size of "
            "the picture, its crop and its target size.",
            inputs=[
                io.Clip.Input("clip", tooltip="The two text encoders."),
                _side("width", 1024, "Original width of the picture"),
                _side("height", 1024, "Original height of the picture"),
                _side("crop_w", 0, "Cropped from its left side", advanced=True),
                _side("crop_h", 0, "Cropped from its top", advanced=True),
                _side("target_width", 1024, "Width after resizing and cropping"),
                _side("target_height", 1024, "Height after resizing and cropping"),
                io.String.Input("text_g", tooltip="The prompt for OpenCLIP-G.", **text),
                io.String.Input("text_l", tooltip="The prompt for CLIP-L.", **text),
            ],
            outputs=[io.Conditioning.Output()],
        )

    @classmethod
    def execute(cls, clip, text_g: str, text_l: str, **sizes: int) -> io.NodeOutput:
        from ..shared.sizes import check_two_encoders

        check_two_encoders(clip)
        tokens = clip.tokenize_apart(text_l, text_g)
        return io.NodeOutput(clip.encode_from_tokens_scheduled(tokens, add_dict=sizes))
