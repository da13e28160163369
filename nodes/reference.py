"""A reference window, which keeps people and places consistent across windows."""

from __future__ import annotations

from .checks import ABSENT, reference_faults, verdict
from .host import host, io
from .inputs import MAX_FRAMES, integer, number


class ReferenceWindowNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoLDM_ReferenceWindow",
            display_name="Reference Window",
            category="VideoLDM/model",
            description="Keeps people and places the same over a long video: the spatial "
            "self-attention of all windows also reads what one chosen window saw at the same step. "
            "For the Video Sampler's windows and segments, and for KSampler with ComfyUI's context "
            "windows.",
            search_aliases=["context ref", "contextref", "reference attention", "identity"],
            inputs=[
                io.Model.Input("model", tooltip="A model with temporal layers."),
                integer(
                    "first_frame", 0, 0, MAX_FRAMES,
                    "First frame of the window that is read; close to the end, the window is moved "
                    "back.",
                ),
                number(
                    "strength", 1.0, 0.0, 1.0,
                    "How much of what is read comes from that window; 0 changes nothing.",
                ),
                number(
                    "negative_strength", 1.0, 0.0, 1.0,
                    "The same for the negative prompt. Equal strengths treat both prompts alike; a "
                    "lower one here guides towards the reference.", advanced=True,
                ),
                number(
                    "begin", 0.0, 0.0, 1.0,
                    "When in the sampling the window starts being read: 0 is the first step, 1 the "
                    "last.",
                    step=0.01, advanced=True,
                ),
                number(
                    "end", 0.25, 0.0, 1.0,
                    "When in the sampling it stops being read. Early steps decide what is shown; "
                    "read to the last step, it pulls everything towards itself.", step=0.01,
                ),
            ],
            outputs=[io.Model.Output(tooltip="The model, whose windows also read the chosen one.")],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, begin=ABSENT, end=ABSENT):
        return verdict(cls, reference_faults, begin=begin, end=end)

    @classmethod
    def execute(cls, model, first_frame, strength, negative_strength, begin, end) -> io.NodeOutput:
        from ..core.networks.reference import ReferenceWindow

        window = ReferenceWindow(
            first=first_frame, strength=strength, negative=negative_strength, begin=begin, end=end
        )
        return io.NodeOutput(host.with_reference(model, window))
