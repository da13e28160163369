"""Inject temporal layers into an image model, and eject them again."""

from __future__ import annotations

from .checks import ABSENT, site_faults, verdict
from .curves import curve_input
from .host import host, io
from .types import TemporalLayersType

CATEGORY = "VideoLDM/model"
OF_LAYERS, OF_MODEL = "of the layers", "of the model"


def strength_input(name: str, tooltip: str, **more) -> io.Input:
    more = {"default": 1.0, "min": 0.0, "max": 4.0, "step": 0.05, **more}
    return io.Float.Input(name, tooltip=tooltip, **more)


def curves() -> list[io.Input]:
    return [
        curve_input(
            "curve",
            "Multiplies strength, over frames or sampling steps or by a mask: more or less motion "
            "here and there. Where it is 0, the image model is left as it was.",
        ),
        curve_input(
            "keys",
            "Multiplies the keys of temporal attention: above 1 frames attend more "
            "sharply, below 1 more evenly.",
            advanced=True,
        ),
        curve_input(
            "queries",
            "Multiplies the queries of temporal attention: like keys, but for the frames that "
            "attend instead of those attended to.",
            advanced=True,
        ),
    ]


def noise_levels() -> io.Input:
    return io.Combo.Input(
        "noise_levels",
        options=[OF_LAYERS, OF_MODEL],
        default=OF_LAYERS,
        optional=True,
        advanced=True,
        tooltip="Whose noise levels (betas) the sampler uses: those that the layers were trained "
        "with, if they differ, or the model's own.",
    )


def first_convolution() -> io.Input:
    return io.Combo.Input(
        "first_convolution",
        options=[OF_MODEL, OF_LAYERS],
        default=OF_MODEL,
        optional=True,
        advanced=True,
        tooltip="For layers that come with a first convolution (PIA): keep the model's own, as for "
        "personalised models, or use that of the layers, as in training.",
    )


def image_frames() -> io.Input:
    return io.String.Input(
        "image_frames",
        default="",
        optional=True,
        advanced=True,
        tooltip="Numbers of frames that are separate images, such as 0, 8-11, or all. Layers "
        "trained with images among the frames leave these to the image model. Empty: none.",
    )


class InjectTemporalLayers(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoLDM_InjectTemporalLayers",
            display_name="Inject Temporal Layers",
            category=CATEGORY,
            description="Puts temporal layers between the layers of an image model. The given "
            "model is not changed; several sets act one after the other.",
            search_aliases=[
                "apply motion module",
                "apply animatediff",
                "animatediff",
                "motion module",
                "motion strength",
                "motion scale",
                "effect multival",
                "scale multival",
                "use evolved sampling",
            ],
            inputs=[
                io.Model.Input("model", tooltip="The image model to turn into a video model."),
                TemporalLayersType.Input(
                    "layers", tooltip="Temporal layers made for this kind of image model."
                ),
                strength_input("strength", "Strength of all temporal layers; 0 switches them off."),
                strength_input(
                    "attention_strength", "Strength of the temporal attention.", advanced=True
                ),
                strength_input(
                    "convolution_strength", "Strength of the temporal convolutions.", advanced=True
                ),
                io.String.Input(
                    "sites",
                    default="",
                    advanced=True,
                    tooltip="Strengths of individual sites, such as down.0=0.5, mid=0. They "
                    "multiply the other strengths. mid.keys=0.8 and up.queries=1.2 are for the "
                    "keys and queries of attention there. Empty changes nothing.",
                ),
                *curves(),
                noise_levels(),
                first_convolution(),
                image_frames(),
            ],
            outputs=[io.Model.Output(tooltip="A video model: the image model with the layers.")],
        )

    @classmethod
    def validate_inputs(cls, sites=ABSENT, image_frames=ABSENT):
        return verdict(cls, site_faults, sites=sites, image_frames=image_frames)

    @classmethod
    def execute(
        cls, model, layers, strength, attention_strength, convolution_strength, sites,
        noise_levels=OF_LAYERS, first_convolution=OF_MODEL, image_frames="", **curves,
    ) -> io.NodeOutput:  # fmt: skip
        from .stages.parsing import read_strength
        from .stages.texts import read_frames

        kinds = {"attention": attention_strength, "convolution": convolution_strength}
        used = read_strength(host, strength, kinds, sites, curves)
        own = {"own_levels": noise_levels == OF_LAYERS, "own_input": first_convolution == OF_LAYERS}
        apart = read_frames(image_frames)
        return io.NodeOutput(host.inject(model, layers, used, **own, image_frames=apart))


class EjectTemporalLayers(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoLDM_EjectTemporalLayers",
            display_name="Eject Temporal Layers",
            category=CATEGORY,
            description="Takes all temporal layers out again, which leaves the image model, bit "
            "for bit.",
            search_aliases=["remove motion module", "remove temporal layers", "image model"],
            inputs=[io.Model.Input("model", tooltip="A model with temporal layers in it.")],
            outputs=[io.Model.Output(tooltip="The image model without temporal layers.")],
        )

    @classmethod
    def execute(cls, model) -> io.NodeOutput:
        return io.NodeOutput(host.eject(model))
