"""Stand-ins for ComfyUI's own nodes around models, prompts and latents."""

from __future__ import annotations

from . import io
from .host import host

MAX_RESOLUTION = 16384


def _strength(name: str, what: str) -> io.Input:
    return io.Float.Input(
        name, default=1.0, min=-100.0, max=100.0, step=0.01,
        tooltip=f"How strongly the LoRA changes the {what}; may be negative.",
    )  # fmt: skip


def _lora_name() -> io.Input:
    return io.Combo.Input(
        "lora_name", options=host.folders.model_names("loras"), tooltip="A file of models/loras."
    )


class CheckpointLoaderSimple(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CheckpointLoaderSimple",
            display_name="Load Checkpoint",
            category="model/loaders",
            description="Loads the model, the text encoder and the VAE of one checkpoint file.",
            inputs=[
                io.Combo.Input(
                    "ckpt_name", options=host.folders.model_names("checkpoints"),
                    tooltip="A file of models/checkpoints.",
                ),
            ],
            outputs=[io.Model.Output(), io.Clip.Output(), io.Vae.Output()],
        )  # fmt: skip

    @classmethod
    def execute(cls, ckpt_name: str) -> io.NodeOutput:
        return io.NodeOutput(*host.load_image_model(ckpt_name))


class VAELoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VAELoader",
            display_name="Load VAE",
            category="model/loaders",
            description="Loads a VAE from a file of its own.",
            inputs=[
                io.Combo.Input(
                    "vae_name", options=host.folders.model_names("vae"),
                    tooltip="A file of models/vae.",
                ),
            ],
            outputs=[io.Vae.Output()],
        )  # fmt: skip

    @classmethod
    def execute(cls, vae_name: str) -> io.NodeOutput:
        return io.NodeOutput(host.loaders.image_vae(vae_name))


class LoraLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoraLoader",
            display_name="Load LoRA (Model and CLIP)",
            category="model/loaders",
            description="Merges a LoRA into copies of the model and of the text encoder.",
            inputs=[
                io.Model.Input("model", tooltip="The model that the LoRA changes."),
                io.Clip.Input("clip", tooltip="The text encoder that the LoRA changes."),
                _lora_name(),
                _strength("strength_model", "model"),
                _strength("strength_clip", "text encoder"),
            ],
            outputs=[io.Model.Output(), io.Clip.Output()],
        )

    @classmethod
    def execute(cls, model, clip, lora_name, strength_model, strength_clip) -> io.NodeOutput:
        changed = host.loaders.lora(model, clip, lora_name, strength_model, strength_clip)
        return io.NodeOutput(*changed)


class LoraLoaderModelOnly(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoraLoaderModelOnly",
            display_name="Load LoRA",
            category="model/loaders",
            description="Merges a LoRA into a copy of the model.",
            inputs=[
                io.Model.Input("model", tooltip="The model that the LoRA changes."),
                _lora_name(),
                _strength("strength_model", "model"),
            ],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def execute(cls, model, lora_name, strength_model) -> io.NodeOutput:
        return io.NodeOutput(host.loaders.lora(model, None, lora_name, strength_model, 0.0)[0])


class CLIPTextEncode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CLIPTextEncode",
            display_name="CLIP Text Encode (Prompt)",
            category="model/conditioning",
            description="Encodes a prompt with the text encoder.",
            inputs=[
                io.String.Input(
                    "text", multiline=True, dynamic_prompts=True, tooltip="The prompt."
                ),
                io.Clip.Input("clip", tooltip="The text encoder."),
            ],
            outputs=[io.Conditioning.Output()],
        )

    @classmethod
    def execute(cls, text: str, clip) -> io.NodeOutput:
        return io.NodeOutput(clip.encode_from_tokens_scheduled(clip.tokenize(text)))


class EmptyLatentImage(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        size = {"default": 512, "min": 16, "max": MAX_RESOLUTION, "step": 8}
        return io.Schema(
            node_id="EmptyLatentImage",
            display_name="Empty Latent Image",
            category="model/latent",
            description="Makes empty latents for a batch of images, or for the frames of a video.",
            inputs=[
                io.Int.Input("width", tooltip="Width in pixels.", **size),
                io.Int.Input("height", tooltip="Height in pixels.", **size),
                io.Int.Input(
                    "batch_size", default=1, min=1, max=4096,
                    tooltip="Number of images, or of frames.",
                ),
            ],
            outputs=[io.Latent.Output()],
        )  # fmt: skip

    @classmethod
    def execute(cls, width: int, height: int, batch_size: int) -> io.NodeOutput:
        from .core_sampling import empty_latent

        return io.NodeOutput(empty_latent(host, width, height, batch_size))


class VAEDecode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VAEDecode",
            display_name="VAE Decode",
            category="model/latent",
            description="Decodes latents into images.",
            inputs=[
                io.Latent.Input("samples", tooltip="The latents to decode."),
                io.Vae.Input("vae", tooltip="The VAE."),
            ],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(cls, vae, samples) -> io.NodeOutput:
        return io.NodeOutput(host.images(vae(host.raw(samples))))


class VAEEncode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VAEEncode",
            display_name="VAE Encode",
            category="model/latent",
            description="Encodes images into latents.",
            inputs=[
                io.Image.Input("pixels", tooltip="The images."),
                io.Vae.Input("vae", tooltip="The VAE."),
            ],
            outputs=[io.Latent.Output()],
        )

    @classmethod
    def execute(cls, vae, pixels) -> io.NodeOutput:
        return io.NodeOutput(host.encode(vae, host.pixels(pixels)))
