"""Bounding boxes: a prompt with the positions of its objects."""

from __future__ import annotations

from .checks import ABSENT, box_faults, verdict
from .host import host, io

EXAMPLE = '[{"label": "red car", "x0": 0.4, "y0": 0.5, "x1": 0.55, "y1": 0.65}]'


class BoundingBoxes(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoLDM_BoundingBoxes",
            display_name="Prompt with Bounding Boxes",
            category="VideoLDM/prompt",
            description="Encodes a prompt together with bounding boxes, for the start frame of a "
            "driving simulation. It needs a CLIP with a box encoder, such as that of the model "
            "that comes with the pack.",
            search_aliases=[
                "gligen",
                "regional prompt",
                "layout to video",
                "bbox",
                "area conditioning",
                "driving simulation",
            ],
            inputs=[
                io.Clip.Input("clip", tooltip="A text encoder with a box encoder."),
                io.String.Input(
                    "text", default="", multiline=True, tooltip="The prompt for the whole picture."
                ),
                io.String.Input(
                    "boxes",
                    default=EXAMPLE,
                    multiline=True,
                    tooltip="A JSON list of boxes with label and corners x0, y0, x1, y1 as "
                    "fractions of the picture; (0, 0) is the top left.",
                ),
            ],
            outputs=[io.Conditioning.Output(tooltip="Positive prompt with its bounding boxes.")],
        )

    @classmethod
    def validate_inputs(cls, boxes=ABSENT):
        return verdict(cls, box_faults, boxes=boxes)

    @classmethod
    def execute(cls, clip, text, boxes) -> io.NodeOutput:
        from .stages.parsing import boxes_conditioning

        return io.NodeOutput(boxes_conditioning(host, clip, text, boxes))
