"""Guidance scale and ControlNet strength over frames and steps."""

from __future__ import annotations

from .curves import CATEGORY, curve_input
from .host import host, io


class GuidanceCurve(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoLDM_GuidanceCurve",
            display_name="Guidance over Frames and Steps",
            category=CATEGORY,
            description="Multiplies the cfg of the sampler by a curve, over frames, over sampling "
            "steps or by a mask. Works with KSampler and with the samplers of this pack.",
            search_aliases=[
                "custom cfg",
                "cfg schedule",
                "dynamic cfg",
                "cfg keyframes",
                "linear cfg guidance",
                "cfg curve",
            ],
            inputs=[
                io.Model.Input("model", tooltip="The model to sample from."),
                curve_input(
                    "curve",
                    "Multiplies the sampler's cfg. At steps where the product is 1 for all frames, "
                    "the negative prompt takes no time. A cfg of 1 in the sampler stays 1.",
                    optional=False,
                ),
            ],
            outputs=[io.Model.Output(tooltip="The model with the curve for its guidance.")],
        )

    @classmethod
    def execute(cls, model, curve) -> io.NodeOutput:
        from .stages.curves import without_sites

        return io.NodeOutput(host.guidance_curve(model, without_sites(host, curve, "guidance")))


class ControlNetStrength(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoLDM_ControlNetStrength",
            display_name="ControlNet over Frames and Steps",
            category=CATEGORY,
            description="Multiplies the strength of the last applied ControlNet by a curve: over "
            "frames, counted in the whole video, over sampling steps or by a mask.",
            search_aliases=[
                "controlnet schedule",
                "latent keyframe",
                "timestep keyframe",
                "controlnet keyframes",
                "controlnet mask",
                "advanced controlnet",
            ],
            inputs=[
                io.Conditioning.Input("positive", tooltip="Prompt with a ControlNet applied."),
                io.Conditioning.Input("negative", tooltip="Its negative prompt."),
                curve_input(
                    "curve",
                    "Multiplies the ControlNet's strength; where the result is 0, the ControlNet "
                    "is not evaluated.",
                    optional=False,
                ),
            ],
            outputs=[
                io.Conditioning.Output("positive", display_name="positive", tooltip="The prompt."),
                io.Conditioning.Output(
                    "negative", display_name="negative", tooltip="The negative prompt."
                ),
            ],
        )

    @classmethod
    def execute(cls, positive, negative, curve) -> io.NodeOutput:
        from .stages.curves import control_strength

        return io.NodeOutput(*control_strength(host, positive, negative, curve))
