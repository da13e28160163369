"""Stand-ins for ComfyUI's nodes that resize latents and images."""

from __future__ import annotations

from . import io
from .core_nodes_models import MAX_RESOLUTION

LATENT_METHODS = ("nearest-exact", "bilinear", "area", "bicubic", "bislerp")
IMAGE_METHODS = ("nearest-exact", "bilinear", "area", "bicubic", "lanczos")
CROPS = ("disabled", "center")
"""Those of core.diffusion.resizing, which listing the nodes must not import; a test compares."""


def _method(methods: tuple[str, ...]) -> io.Input:
    return io.Combo.Input("upscale_method", options=list(methods), tooltip="How to interpolate.")


def _size(name: str, step: int) -> io.Input:
    return io.Int.Input(
        name, default=512, min=0, max=MAX_RESOLUTION, step=step,
        tooltip=f"The new {name} in pixels; 0 keeps the proportions.",
    )  # fmt: skip


def _crop() -> io.Input:
    return io.Combo.Input(
        "crop", options=list(CROPS), tooltip="Cut the middle out instead of distorting."
    )


def _factor(default: float) -> io.Input:
    return io.Float.Input(
        "scale_by", default=default, min=0.01, max=8.0, step=0.01, tooltip="The factor."
    )


class LatentUpscale(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LatentUpscale",
            display_name="Upscale Latent",
            category="model/latent",
            description="Resizes latents to a size in pixels.",
            inputs=[
                io.Latent.Input("samples", tooltip="The latents."),
                _method(LATENT_METHODS),
                _size("width", 8),
                _size("height", 8),
                _crop(),
            ],
            outputs=[io.Latent.Output()],
        )

    @classmethod
    def execute(cls, samples, upscale_method, width, height, crop) -> io.NodeOutput:
        from .scaling import latent_to

        return io.NodeOutput(latent_to(samples, width, height, upscale_method, crop))


class LatentUpscaleBy(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LatentUpscaleBy",
            display_name="Upscale Latent By",
            category="model/latent",
            description="Resizes latents by a factor.",
            inputs=[
                io.Latent.Input("samples", tooltip="The latents."),
                _method(LATENT_METHODS),
                _factor(1.5),
            ],
            outputs=[io.Latent.Output()],
        )

    @classmethod
    def execute(cls, samples, upscale_method, scale_by) -> io.NodeOutput:
        from .scaling import latent_by

        return io.NodeOutput(latent_by(samples, scale_by, upscale_method))


class ImageScale(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImageScale",
            display_name="Upscale Image",
            category="image/upscaling",
            description="Resizes images.",
            inputs=[
                io.Image.Input("image", tooltip="The images."),
                _method(IMAGE_METHODS),
                _size("width", 1),
                _size("height", 1),
                _crop(),
            ],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(cls, image, upscale_method, width, height, crop) -> io.NodeOutput:
        from .scaling import image_to

        return io.NodeOutput(image_to(image, width, height, upscale_method, crop))


class ImageScaleBy(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImageScaleBy",
            display_name="Upscale Image By",
            category="image/upscaling",
            description="Resizes images by a factor.",
            inputs=[
                io.Image.Input("image", tooltip="The images."),
                _method(IMAGE_METHODS),
                _factor(1.0),
            ],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(cls, image, upscale_method, scale_by) -> io.NodeOutput:
        from .scaling import image_by

        return io.NodeOutput(image_by(image, scale_by, upscale_method))
