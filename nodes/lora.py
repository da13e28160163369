"""LoRAs whose strength varies over frames and steps."""

from __future__ import annotations

from .curves import curve_input
from .host import host, io
from .types import TemporalLayersType

CATEGORY = "VideoLDM/load"


def strength_input() -> io.Input:
    return io.Float.Input(
        "strength",
        default=1.0,
        min=-20.0,
        max=20.0,
        step=0.05,
        tooltip="Strength of the LoRA; negative values reverse its effect.",
    )


class LoadScheduledLoRA(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoLDM_LoadScheduledLoRA",
            display_name="Load LoRA over Frames and Steps",
            category=CATEGORY,
            description="Puts a LoRA beside the layers of a model, with a strength that may change "
            "from frame to frame and from step to step. No weights are merged or swapped. Several "
            "LoRAs add up. The text encoder stays as it is.",
            search_aliases=[
                "lora schedule",
                "lora hook",
                "scheduled lora",
                "lora keyframes",
                "lora per frame",
                "animate lora",
            ],
            inputs=[
                io.Model.Input("model", tooltip="The model that the LoRA changes."),
                io.Combo.Input(
                    "lora_name",
                    options=host.folders.model_names("loras"),
                    tooltip="A file in models/loras. For its text encoder part, use Load LoRA with "
                    "strength_model 0.",
                ),
                strength_input(),
                curve_input(
                    "curve",
                    "Multiplies strength, over frames or sampling steps. LoRAs take no masks.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="The model with the LoRA beside its layers.")],
        )

    @classmethod
    def execute(cls, model, lora_name, strength, curve=None) -> io.NodeOutput:
        from .stages.curves import unmasked

        used = unmasked(host, curve, "a LoRA") * strength
        return io.NodeOutput(host.scheduled_lora(model, lora_name, used))


class LoadMotionLoRA(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoLDM_LoadMotionLoRA",
            display_name="Load Motion LoRA",
            category=CATEGORY,
            description="Puts a motion LoRA, such as those for camera moves, beside temporal "
            "layers, with a strength that may change from frame to frame and from step to step. "
            "Several add up.",
            search_aliases=[
                "motion lora",
                "animatediff lora",
                "camera motion",
                "pan left",
                "zoom in",
                "motion lora schedule",
            ],
            inputs=[
                TemporalLayersType.Input("layers", tooltip="Layers that the LoRA was made for."),
                io.Combo.Input(
                    "lora_name",
                    options=host.folders.model_names("loras"),
                    tooltip="A file in models/loras.",
                ),
                strength_input(),
                curve_input(
                    "curve",
                    "Multiplies strength, over frames or sampling steps. LoRAs take no masks.",
                ),
            ],
            outputs=[
                TemporalLayersType.Output(
                    "layers", display_name="layers", tooltip="The layers with the LoRA beside them."
                )
            ],
        )

    @classmethod
    def execute(cls, layers, lora_name, strength, curve=None) -> io.NodeOutput:
        from .stages.curves import unmasked

        used = unmasked(host, curve, "a motion LoRA") * strength
        return io.NodeOutput(host.motion_lora(layers, lora_name, used))
