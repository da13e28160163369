"""Long-horizon segments: one prompt per part of a video."""

from __future__ import annotations

from .checks import ABSENT, segment_faults, verdict
from .choices import BLENDS
from .host import host, io
from .inputs import MAX_FRAMES, integer, number

EXAMPLE = """[
  {"prompt": "a red circle moves right on a black background", "frames": 32},
  {"prompt": "a blue square moves up on a black background", "frames": 32, "overlap": 8}
]"""
HOW_TO_WRITE = (
    "A JSON list of segments with prompt, frames, overlap (frames shared with the segment before) "
    'and, optionally, a seed. Or prompts at frames: "0": "a cat", "16": "a dog". Lengths '
    'and places may also be seconds ("2s") or parts of the video ("25%"). Numbers in backticks '
    "change over the frames: (a cat:`0.5, 1.4`) over the whole video, (a cat:`0: 0.5, 16: 1.4`) at "
    "frames."
)


def _blend() -> io.Input:
    return io.Combo.Input(
        "blend", options=list(BLENDS), default=BLENDS[0], optional=True, advanced=True,
        tooltip="How one prompt fades into the next: linear, or spherical, which keeps the norm of "
        "the token embeddings. The pooled embedding, which SDXL reads, is always blended linearly.",
    )  # fmt: skip


class LongHorizonSegments(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoLDM_LongHorizonSegments",
            display_name="Long-Horizon Segments",
            category="VideoLDM/prompt",
            description="Gives each part of a long video its own prompt. Where segments overlap, "
            "one prompt fades into the next. For the Video Sampler, and for ComfyUI's own samplers "
            "where the model has temporal layers.",
            search_aliases=[
                "prompt schedule",
                "prompt travel",
                "batch prompt schedule",
                "timeline",
                "storyboard",
                "prompt scheduling",
                "fizznodes",
            ],
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoder that belongs to the model."),
                io.String.Input(
                    "segments", default=EXAMPLE, multiline=True, tooltip=HOW_TO_WRITE,
                ),
                integer(
                    "frames", 0, 0, MAX_FRAMES,
                    "Number of frames in the video: percentages and places counted from the end "
                    "refer to it, and the last prompt at a frame lasts until then. 0: as many as "
                    "the segments add up to.",
                    optional=True, advanced=True,
                ),
                number(
                    "frame_rate", 15.0, 0.1, 240.0, "Frames per second, for lengths in seconds.",
                    step=0.01, optional=True, advanced=True,
                ),
                _blend(),
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
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, segments=ABSENT, frames=ABSENT, frame_rate=ABSENT):
        given = {"segments": segments, "frames": frames, "frame_rate": frame_rate}
        return verdict(cls, segment_faults, **given)

    @classmethod
    def execute(cls, clip, segments, frames=0, frame_rate=15.0, blend=BLENDS[0]) -> io.NodeOutput:
        from .stages.parsing import segments_conditioning
        from .stages.prompt_travel import Clock

        clock = Clock(frames=frames, rate=frame_rate)
        return io.NodeOutput(*segments_conditioning(host, clip, segments, clock, blend))
