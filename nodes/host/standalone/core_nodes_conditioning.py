"""Stand-ins for ComfyUI's nodes that change a CLIP or a CONDITIONING."""

from __future__ import annotations

from . import io


class CLIPSetLastLayer(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CLIPSetLastLayer",
            display_name="CLIP Set Last Layer",
            category="model/conditioning",
            description="Uses the output of an earlier layer of the text encoder (clip skip).",
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoder."),
                io.Int.Input(
                    "stop_at_clip_layer", default=-1, min=-24, max=-1, step=1, advanced=True,
                    tooltip="The last layer that is used; -1 uses all layers.",
                ),
            ],
            outputs=[io.Clip.Output()],
        )  # fmt: skip

    @classmethod
    def execute(cls, clip, stop_at_clip_layer: int) -> io.NodeOutput:
        return io.NodeOutput(clip.stopping_at(stop_at_clip_layer))


class ConditioningZeroOut(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ConditioningZeroOut",
            display_name="Conditioning Zero Out",
            category="model/conditioning/transform",
            description="Sets encoded prompts to zero.",
            inputs=[io.Conditioning.Input("conditioning", tooltip="The encoded prompts.")],
            outputs=[io.Conditioning.Output()],
        )

    @classmethod
    def execute(cls, conditioning) -> io.NodeOutput:
        from .mixing import zeroed

        return io.NodeOutput(zeroed(conditioning))


class ConditioningCombine(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ConditioningCombine",
            display_name="Conditioning (Combine)",
            category="model/conditioning/transform",
            description="Combines prompts: each is evaluated, and the predictions are averaged.",
            inputs=[
                io.Conditioning.Input("conditioning_1", tooltip="The first prompts."),
                io.Conditioning.Input("conditioning_2", tooltip="The second prompts."),
            ],
            outputs=[io.Conditioning.Output()],
        )

    @classmethod
    def execute(cls, conditioning_1, conditioning_2) -> io.NodeOutput:
        return io.NodeOutput([*conditioning_1, *conditioning_2])


class ConditioningAverage(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ConditioningAverage",
            display_name="Conditioning (Average)",
            category="model/conditioning/transform",
            description="Mixes the tokens of two encoded prompts.",
            inputs=[
                io.Conditioning.Input("conditioning_to", tooltip="The prompts that are changed."),
                io.Conditioning.Input("conditioning_from", tooltip="What is mixed in."),
                io.Float.Input(
                    "conditioning_to_strength", default=1.0, min=0.0, max=1.0, step=0.01,
                    tooltip="The share of the prompts that are changed.",
                ),
            ],
            outputs=[io.Conditioning.Output()],
        )  # fmt: skip

    @classmethod
    def execute(cls, conditioning_to, conditioning_from, conditioning_to_strength
                ) -> io.NodeOutput:  # fmt: skip
        from .mixing import mixed

        return io.NodeOutput(mixed(conditioning_to, conditioning_from, conditioning_to_strength))


class ConditioningConcat(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ConditioningConcat",
            display_name="Conditioning (Concat)",
            category="model/conditioning/transform",
            description="Appends the tokens of one encoded prompt to those of another.",
            inputs=[
                io.Conditioning.Input("conditioning_to", tooltip="The prompts that come first."),
                io.Conditioning.Input("conditioning_from", tooltip="The prompt that is appended."),
            ],
            outputs=[io.Conditioning.Output()],
        )

    @classmethod
    def execute(cls, conditioning_to, conditioning_from) -> io.NodeOutput:
        from .mixing import joined

        return io.NodeOutput(joined(conditioning_to, conditioning_from))


class ConditioningSetTimestepRange(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        share = {"min": 0.0, "max": 1.0, "step": 0.001}
        return io.Schema(
            node_id="ConditioningSetTimestepRange",
            display_name="Conditioning Set Timestep Range",
            category="model/conditioning/transform",
            description="Limits prompts to a part of the sampling.",
            inputs=[
                io.Conditioning.Input("conditioning", tooltip="The encoded prompts."),
                io.Float.Input("start", default=0.0, tooltip="Where they begin, 0 to 1.", **share),
                io.Float.Input("end", default=1.0, tooltip="Where they end, 0 to 1.", **share),
            ],
            outputs=[io.Conditioning.Output()],
        )

    @classmethod
    def execute(cls, conditioning, start: float, end: float) -> io.NodeOutput:
        limits = {"start_percent": start, "end_percent": end}
        return io.NodeOutput([[tokens, {**more, **limits}] for tokens, more in conditioning])
