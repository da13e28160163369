"""Long-horizon segments: a prompt for each part of a video."""

from __future__ import annotations

from .checks import ABSENT, segment_faults, verdict
from .host import host, io

EXAMPLE = """[
  {"prompt": "a red circle moves right on a black background", "frames": 32},
  {"prompt": "a blue square moves up on a black background", "frames": 32, "overlap": 8}
]"""


class LongHorizonSegments(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoLDM_LongHorizonSegments",
            display_name="Long-Horizon Segments",
            category="VideoLDM/prompt",
            description="Gives each part of a long video its own prompt. Where segments overlap, "
            "one prompt fades into the next.",
            search_aliases=[
                "prompt schedule",
                "prompt travel",
                "batch prompt schedule",
                "timeline",
                "storyboard",
                "fizznodes",
            ],
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoder that belongs to the model."),
                io.String.Input(
                    "segments",
                    default=EXAMPLE,
                    multiline=True,
                    tooltip="A JSON list of segments with prompt, frames, overlap (frames shared "
                    "with the segment before) and, if wanted, a seed.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    tooltip="Positive prompts, each with the frames that it applies to."
                ),
                io.Int.Output(
                    "frames",
                    display_name="frames",
                    tooltip="Number of frames of all segments, for the Video Sampler.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, segments=ABSENT):
        return verdict(cls, segment_faults, segments=segments)

    @classmethod
    def execute(cls, clip, segments) -> io.NodeOutput:
        from .stages.parsing import segments_conditioning

        return io.NodeOutput(*segments_conditioning(host, clip, segments))
