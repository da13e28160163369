"""Loaders: image models, temporal layers, temporal VAEs, upsamplers."""

from __future__ import annotations

from .host import host, io
from .host.shared.checkpoint_hints import TASKS, WEIGHTS, CheckpointHints, latent_data
from .host.shared.model_names import (
    IMAGE_MODEL,
    TEMPORAL_DECODER,
    TEMPORAL_LAYERS,
    UPSAMPLER,
    VIDEO_MODEL,
    VIDEO_MODEL_FILES,
    default_name,
    offered,
)
from .inputs import combo
from .types import TemporalLayersType

AS_IN_FILE = "as in the file"
CATEGORY = "VideoLDM/load"


def model_outputs() -> list[io.Output]:
    return [
        io.Model.Output(tooltip="The denoising network."),
        io.Clip.Output(tooltip="The text encoder that belongs to the model."),
        io.Vae.Output(tooltip="The autoencoder between pixels and the model's latents."),
    ]


def hint_inputs() -> list[io.Input]:
    """Inputs for facts that some published files do not record."""
    return [
        combo(
            "weights",
            WEIGHTS,
            "Which weights to take from files that hold two sets. Published: those that the "
            "original code samples with. Raw: the trained ones. Average: their running average "
            "(EMA).",
        ),
        combo(
            "latents_of",
            (AS_IN_FILE, *latent_data()),
            "What the model's autoencoder was trained on, for files that do not say: the scale of "
            "its latents depends on it.",
        ),
        combo(
            "trained_for",
            (AS_IN_FILE, *TASKS),
            "Task of a model that is given frames, for files that do not say.",
        ),
    ]


class LoadImageModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoLDM_LoadImageModel",
            display_name="Load Image Model (Video LDM)",
            category=CATEGORY,
            description="Loads a text-to-image latent diffusion model, which temporal layers then "
            "turn into a video model. A small one comes with this pack and runs on a CPU.",
            search_aliases=[
                "load checkpoint",
                "checkpoint loader",
                "stable diffusion",
                "load model",
            ],
            inputs=[
                io.Combo.Input(
                    "model",
                    options=offered(host.folders, IMAGE_MODEL),
                    default=default_name(IMAGE_MODEL),
                    tooltip="The small model that comes with the pack, or a checkpoint in "
                    "models/checkpoints.",
                ),
            ],
            outputs=model_outputs(),
        )

    @classmethod
    def execute(cls, model: str) -> io.NodeOutput:
        return io.NodeOutput(*host.load_image_model(model))


class LoadVideoModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoLDM_LoadVideoModel",
            display_name="Load Video Model",
            category=CATEGORY,
            description="Loads a video model and whatever else its file holds: an image U-Net with "
            "its temporal layers, which are also output separately for other image models, or a "
            "network made for video. Take a text encoder or VAE that the file lacks from the image "
            "model it was built on.",
            search_aliases=[
                "load lavie",
                "lavie",
                "svd",
                "stable video diffusion",
                "image only checkpoint loader",
                "modelscope",
                "zeroscope",
                "video model loader",
                "text to video model",
                "lvdm",
                "videocrafter",
                "motion model",
            ],
            inputs=[
                io.Combo.Input(
                    "model",
                    options=offered(host.folders, VIDEO_MODEL),
                    tooltip="A file or diffusers folder in models/videoldm or models/checkpoints "
                    f"that holds a whole video model, such as {', '.join(VIDEO_MODEL_FILES)}.",
                ),
                *hint_inputs(),
            ],
            outputs=[
                io.Model.Output(
                    tooltip="The image U-Net with its temporal layers injected, or the network "
                    "made for video."
                ),
                TemporalLayersType.Output(
                    "layers",
                    display_name="layers",
                    tooltip="The temporal layers alone, for other image models.",
                ),
                io.ClipVision.Output(tooltip="The image encoder, for image-to-video models."),
                io.Vae.Output(
                    tooltip="The VAE in the file, with its temporal decoder if it has one."
                ),
                io.Clip.Output(tooltip="The text encoder in the file, if it holds one."),
            ],
        )

    @classmethod
    def execute(cls, model: str, weights: str = WEIGHTS[0], latents_of: str = AS_IN_FILE,
                trained_for: str = AS_IN_FILE) -> io.NodeOutput:  # fmt: skip
        hints = ("" if one == AS_IN_FILE else one for one in (latents_of, trained_for))
        return io.NodeOutput(*host.load_video_model(model, CheckpointHints(weights, *hints)))


class LoadTemporalLayers(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoLDM_LoadTemporalLayers",
            display_name="Load Temporal Layers",
            category=CATEGORY,
            description="Loads temporal layers, which go between the layers of an image model so "
            "that the frames of a video agree. Different sets serve different tasks.",
            search_aliases=[
                "motion module",
                "load motion module",
                "animatediff loader",
                "motion model",
                "temporal layers",
                "lvdm",
            ],
            inputs=[
                io.Combo.Input(
                    "layers",
                    options=offered(host.folders, TEMPORAL_LAYERS),
                    default=default_name(TEMPORAL_LAYERS),
                    tooltip="Text to video makes videos from prompts, prediction continues given "
                    "frames, interpolation fills in between them. Files are those in "
                    "models/videoldm and models/checkpoints; of a whole video model, only the "
                    "layers are taken.",
                ),
            ],
            outputs=[
                TemporalLayersType.Output(
                    "layers",
                    display_name="layers",
                    tooltip="Temporal layers for Inject Temporal Layers.",
                )
            ],
        )

    @classmethod
    def execute(cls, layers: str) -> io.NodeOutput:
        return io.NodeOutput(host.load_temporal_layers(layers))


class LoadTemporalVAE(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoLDM_LoadTemporalVAE",
            display_name="Load Temporal VAE",
            category=CATEGORY,
            description="Loads an autoencoder whose decoder was fine-tuned on videos, so that "
            "decoded frames do not flicker.",
            search_aliases=[
                "load vae",
                "video vae",
                "temporal decoder",
                "flicker free vae",
                "svd vae",
                "deflicker",
            ],
            inputs=[
                io.Combo.Input(
                    "vae",
                    options=offered(host.folders, TEMPORAL_DECODER),
                    default=default_name(TEMPORAL_DECODER),
                    tooltip="The temporal decoder that comes with the pack, or a file in "
                    "models/vae or models/checkpoints that holds one.",
                ),
            ],
            outputs=[io.Vae.Output(tooltip="A VAE whose decoder sees neighbouring frames.")],
        )

    @classmethod
    def execute(cls, vae: str) -> io.NodeOutput:
        return io.NodeOutput(host.load_temporal_vae(vae))


class LoadUpsampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoLDM_LoadUpsampler",
            display_name="Load Upsampler",
            category=CATEGORY,
            description="Loads an x4 video upsampler with its temporal layers in place, together "
            "with the text encoder and the autoencoder it works with.",
            search_aliases=[
                "load upscale model",
                "video upscaler",
                "x4 upscaler",
                "super resolution model",
            ],
            inputs=[
                io.Combo.Input(
                    "upsampler",
                    options=offered(host.folders, UPSAMPLER),
                    default=default_name(UPSAMPLER),
                    tooltip="The small upsampler that comes with the pack, or a file in "
                    "models/checkpoints.",
                ),
            ],
            outputs=model_outputs(),
        )

    @classmethod
    def execute(cls, upsampler: str) -> io.NodeOutput:
        return io.NodeOutput(*host.load_upsampler(upsampler))
