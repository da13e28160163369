"""Temporal VAE: decode latents to frames, or to a video while it is saved; encode frames."""

from __future__ import annotations

from .choices import MISFITS
from .host import host, io
from .inputs import chunk, chunk_overlap, combo, frame_rate, tile

CATEGORY = "VideoLDM/vae"


def decoder_inputs() -> list[io.Input]:
    return [
        io.Latent.Input("samples", tooltip="The latents of a video."),
        io.Vae.Input(
            "vae", lazy=True, tooltip="A VAE; one with a temporal decoder does not flicker."
        ),
    ]


def decoder_wanted(given) -> list[str]:
    """The lazy inputs that a decoding node still needs: none if its frames are cached."""
    from .host.shared.finished_stages import requested_inputs
    from .stages.decoding import frames_output

    return requested_inputs(host, given, frames_output(host))


class TemporalVAEDecode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoLDM_TemporalVAEDecode",
            display_name="Temporal VAE Decode",
            category=CATEGORY,
            description="Decodes a video into frames. Each chunk is decoded together with all "
            "neighbouring frames that can affect it, so the result does not depend on the chunk "
            "length. Decoders that look at a whole chunk are the exception: their chunks are "
            "blended.",
            search_aliases=[
                "vae decode",
                "decode video",
                "decode latents",
                "vae decode tiled",
                "deflicker",
            ],
            inputs=[*decoder_inputs(), chunk(), tile(), chunk_overlap()],
            outputs=[io.Image.Output(tooltip="The frames of the video.")],
        )

    @classmethod
    def check_lazy_status(cls, **given):
        return decoder_wanted(given)

    @classmethod
    def execute(cls, samples, vae=None, **settings) -> io.NodeOutput:
        from .stages.decoding import Decoding, decode_images

        return io.NodeOutput(decode_images(host, samples, vae, Decoding(**settings)))


class TemporalVAEDecodeToVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoLDM_TemporalVAEDecodeToVideo",
            display_name="Temporal VAE Decode to Video",
            category=CATEGORY,
            description="Gives a video whose frames are decoded only while it is saved, chunk by "
            "chunk: memory does not grow with its length.",
            search_aliases=[
                "vae decode",
                "decode video",
                "latent to video",
                "stream video",
                "low memory decode",
            ],
            inputs=[*decoder_inputs(), frame_rate(), chunk(), tile(), chunk_overlap()],
            outputs=[io.Video.Output(tooltip="A video that is decoded while it is saved.")],
        )

    @classmethod
    def check_lazy_status(cls, **given):
        return decoder_wanted(given)

    @classmethod
    def execute(cls, samples, frame_rate, vae=None, **settings) -> io.NodeOutput:
        from .stages.decoding import Decoding, decode_video

        return io.NodeOutput(decode_video(host, samples, vae, frame_rate, Decoding(**settings)))


class TemporalVAEEncode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoLDM_TemporalVAEEncode",
            display_name="Temporal VAE Encode",
            category=CATEGORY,
            description="Encodes frames or a single image: each frame by itself or, with a 3D "
            "autoencoder, several frames as one latent frame.",
            search_aliases=["vae encode", "encode video", "image to latent", "img2vid"],
            inputs=[
                io.Image.Input(
                    "images", tooltip="Frames whose sides are multiples of the VAE's factor."
                ),
                io.Vae.Input("vae", tooltip="The VAE of the model."),
                combo(
                    "misfit",
                    MISFITS,
                    "What to do when the number of frames does not fill whole latent frames of a "
                    "3D autoencoder: refuse, repeat the last frame, or crop.",
                ),
            ],
            outputs=[io.Latent.Output(tooltip="The latents of the frames.")],
        )

    @classmethod
    def execute(cls, images, vae, misfit=MISFITS[0]) -> io.NodeOutput:
        from .stages.decoding import encode_images

        return io.NodeOutput(encode_images(host, images, vae, misfit))
