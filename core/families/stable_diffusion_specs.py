"""Specs of the published image models: Stable Diffusion 1, 2, XL and the x4 upscaler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..diffusion.denoiser import Prediction
from ..networks.sites import SD1, SD2, SDXL, X4_UPSCALER, UNetLayout


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """One published image model: its networks' configurations as diffusers and transformers have
    them."""

    layout: UNetLayout
    unet: dict[str, Any]
    autoencoder: dict[str, Any]
    text: dict[str, Any]
    open_clip: bool = False  # whether the single file has OpenCLIP's names for the text encoder
    padding: int = 49407  # the token that pads short prompts
    prediction: Prediction | None = "eps"  # None: detected from a weight, see `prediction_of`
    betas: tuple[float, float] = (8.5e-4, 1.2e-2)
    max_noise_level: int = 0  # above 0 for upscalers
    second_text: dict[str, Any] | None = None  # XL's second text encoder
    second_padding: int = 0
    half_autoencoder: bool = True  # whether it works in float16


def unet_config(layout: UNetLayout, **more: Any) -> dict[str, Any]:
    """diffusers' configuration of a U-Net with this layout."""
    return dict(
        block_out_channels=layout.channels,
        layers_per_block=layout.layers,
        transformer_layers_per_block=tuple(d or 1 for d in layout.depths),
        down_block_types=tuple(f"{'CrossAttn' * bool(d)}DownBlock2D" for d in layout.depths),
        up_block_types=tuple(f"{'CrossAttn' * bool(d)}UpBlock2D" for d in layout.depths[::-1]),
        **more,
    )


def autoencoder_config(channels: tuple[int, ...], scale: float) -> dict[str, Any]:
    levels = len(channels)
    return dict(
        block_out_channels=channels,
        layers_per_block=2,
        latent_channels=4,
        scaling_factor=scale,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
    )


CLIP_L = dict(
    hidden_size=768,
    intermediate_size=3072,
    num_hidden_layers=12,
    num_attention_heads=12,
    hidden_act="quick_gelu",
    projection_dim=768,
    bos_token_id=49406,
    eos_token_id=49407,
    pad_token_id=49407,
)
# 23 of the 24 layers: the condition is the penultimate layer's output, after the final norm.
OPEN_CLIP_H = dict(
    hidden_size=1024,
    intermediate_size=4096,
    num_hidden_layers=23,
    num_attention_heads=16,
    hidden_act="gelu",
    projection_dim=1024,
    bos_token_id=49406,
    eos_token_id=49407,
    pad_token_id=0,
)
# All layers: the condition is the penultimate layer's output, the pooled text comes from the last.
OPEN_CLIP_G = OPEN_CLIP_H | dict(
    hidden_size=1280,
    intermediate_size=5120,
    num_hidden_layers=32,
    num_attention_heads=20,
    projection_dim=1280,
)

SPECS: dict[str, ImageSpec] = {
    "stable diffusion 1": ImageSpec(
        layout=SD1,
        unet=unet_config(SD1, cross_attention_dim=768, attention_head_dim=8),
        autoencoder=autoencoder_config((128, 256, 512, 512), 0.18215),
        text=CLIP_L,
    ),
    "stable diffusion 2": ImageSpec(
        layout=SD2,
        unet=unet_config(
            SD2,
            cross_attention_dim=1024,
            attention_head_dim=(5, 10, 20, 20),
            use_linear_projection=True,
        ),
        autoencoder=autoencoder_config((128, 256, 512, 512), 0.18215),
        text=OPEN_CLIP_H,
        open_clip=True,
        padding=0,
        prediction=None,
    ),
    "stable diffusion xl": ImageSpec(
        layout=SDXL,
        unet=unet_config(
            SDXL,
            cross_attention_dim=2048,
            attention_head_dim=(5, 10, 20),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        ),
        autoencoder=autoencoder_config((128, 256, 512, 512), 0.13025),
        text=CLIP_L,
        second_text=OPEN_CLIP_G,
        half_autoencoder=False,
    ),
    "stable diffusion x4 upscaler": ImageSpec(
        layout=X4_UPSCALER,
        # The three finer levels attend to the text twice instead of to themselves.
        unet=unet_config(
            X4_UPSCALER,
            cross_attention_dim=1024,
            attention_head_dim=8,
            in_channels=7,
            use_linear_projection=True,
            num_class_embeds=1000,
            only_cross_attention=(True, True, True, False),
        ),
        autoencoder=autoencoder_config((128, 256, 512), 0.08333),
        text=OPEN_CLIP_H,
        open_clip=True,
        padding=0,
        prediction="v",
        betas=(1e-4, 2e-2),
        max_noise_level=350,
        half_autoencoder=False,
    ),
}
