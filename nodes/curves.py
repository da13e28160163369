"""Strengths that change over frames and steps."""

from __future__ import annotations

from .checks import ABSENT, curve_faults, verdict
from .host import host, io
from .types import CurveType, FloatsType

CATEGORY = "VideoLDM/curves"
AXES, INTERPOLATIONS = ("frames", "steps"), ("linear", "hold", "smooth")
EXAMPLE = "[[0, 1], [15, 1]]"


def curve_input(name: str, tooltip: str, **more) -> io.Input:
    """An input that takes a curve, a number, a list of numbers or a mask."""
    kinds = [CurveType, io.Float, FloatsType, io.Mask]
    return io.MultiType.Input(name, types=kinds, tooltip=tooltip, **{"optional": True, **more})


class StrengthCurve(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoLDM_StrengthCurve",
            display_name="Strength Curve",
            category=CATEGORY,
            description="Draws a strength over the frames of a video or the steps of a sampler, "
            "for temporal layers, LoRAs, ControlNets and guidance. Connect one curve to another to "
            "multiply them.",
            search_aliases=[
                "value schedule", "keyframes", "timestep keyframe", "multival", "effect multival",
                "scale multival", "lora schedule", "animate strength", "per block",
            ],
            inputs=[
                io.String.Input(
                    "points",
                    default=EXAMPLE,
                    multiline=True,
                    tooltip="A JSON list of points [x, strength]. x is a frame's number, or for "
                    "steps from 0 (the first) to 1 (the last). Two points at the same x make a "
                    "jump: the first is the value there, the second the value after it.",
                ),
                io.Combo.Input(
                    "over",
                    options=list(AXES),
                    default="frames",
                    tooltip="What x counts: frames of the whole video, or steps of the sampler.",
                ),
                io.Combo.Input(
                    "interpolation",
                    options=list(INTERPOLATIONS),
                    default="linear",
                    tooltip="Between points: straight lines, each value until the next point, or a "
                    "smooth curve that does not overshoot.",
                ),
                curve_input(
                    "times",
                    "What the curve is multiplied by: another curve, a number, one number per "
                    "frame or a mask.",
                ),
                io.String.Input(
                    "sites", default="", optional=True, advanced=True,
                    tooltip="Sites of temporal layers that the curve is for, such as mid, up.1. "
                    "Elsewhere it is 1, and so is what is connected to times, unless that has "
                    "sites of its own. Empty: everywhere.",
                ),
            ],
            outputs=[CurveType.Output("curve", tooltip="The strength, for any input for curves.")],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, points=ABSENT, over=ABSENT, sites=ABSENT):
        return verdict(cls, curve_faults, points=points, over=over, sites=sites)

    @classmethod
    def execute(cls, points, over, interpolation, times=None, sites="") -> io.NodeOutput:
        from .stages.curves import drawn_curve

        return io.NodeOutput(drawn_curve(host, points, over, interpolation, times, sites))
