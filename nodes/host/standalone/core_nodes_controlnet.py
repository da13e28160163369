"""Stand-ins for ComfyUI's nodes around ControlNets."""

from __future__ import annotations

from . import io
from .host import host

ControlNet = io.Custom("CONTROL_NET")


def _strength() -> io.Input:
    return io.Float.Input(
        "strength", default=1.0, min=0.0, max=10.0, step=0.01,
        tooltip="How strongly the image is followed; 0 is not at all.",
    )  # fmt: skip


def _net_and_image() -> list[io.Input]:
    return [
        ControlNet.Input("control_net", tooltip="The ControlNet."),
        io.Image.Input(
            "image", tooltip="What it follows: one image, or as many as the video has frames."
        ),
        _strength(),
    ]


class ControlNetLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ControlNetLoader",
            display_name="Load ControlNet Model",
            category="model/loaders",
            description="Loads a ControlNet for image models.",
            inputs=[
                io.Combo.Input(
                    "control_net_name", options=host.folders.model_names("controlnet"),
                    tooltip="A file of models/controlnet.",
                ),
            ],
            outputs=[ControlNet.Output()],
        )  # fmt: skip

    @classmethod
    def execute(cls, control_net_name: str) -> io.NodeOutput:
        return io.NodeOutput(host.loaders.controlnet(control_net_name))


class ControlNetApply(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ControlNetApply",
            display_name="Apply ControlNet (OLD)",
            category="model/conditioning/controlnet",
            description="Lets the sampling follow an image; negative prompts follow it as well.",
            inputs=[
                io.Conditioning.Input("conditioning", tooltip="The encoded prompts."),
                *_net_and_image(),
            ],
            outputs=[io.Conditioning.Output()],
            is_deprecated=True,
        )

    @classmethod
    def execute(cls, conditioning, control_net, image, strength: float) -> io.NodeOutput:
        from .control import TO_NEGATIVE, hint, with_hint

        if strength == 0:
            return io.NodeOutput(conditioning)
        one = hint(control_net, image, strength)
        return io.NodeOutput(with_hint(conditioning, one, **{TO_NEGATIVE: True}))


class ControlNetApplyAdvanced(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        share = {"min": 0.0, "max": 1.0, "step": 0.001}
        return io.Schema(
            node_id="ControlNetApplyAdvanced",
            display_name="Apply ControlNet",
            category="model/conditioning/controlnet",
            description="Lets a part of the sampling follow an image.",
            inputs=[
                io.Conditioning.Input("positive", tooltip="Positive prompt."),
                io.Conditioning.Input("negative", tooltip="Negative prompt."),
                *_net_and_image(),
                io.Float.Input("start_percent", default=0.0, tooltip="Where it begins.", **share),
                io.Float.Input("end_percent", default=1.0, tooltip="Where it ends.", **share),
                io.Vae.Input(
                    "vae", optional=True,
                    tooltip="For ControlNets that follow latents, such as SparseCtrl for images.",
                ),
            ],
            outputs=[
                io.Conditioning.Output("positive", display_name="positive"),
                io.Conditioning.Output("negative", display_name="negative"),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, positive, negative, control_net, image, strength, start_percent, end_percent,
                vae=None) -> io.NodeOutput:  # fmt: skip
        from .control import TO_NEGATIVE, hint, with_hint

        if strength == 0:
            return io.NodeOutput(positive, negative)
        one = hint(control_net, image, strength, start_percent, end_percent, vae)
        both = (with_hint(prompts, one, **{TO_NEGATIVE: False}) for prompts in (positive, negative))
        return io.NodeOutput(*both)
