"""ComfyUI's CLIP_VISION: building one from core's image encoder, and embedding images with it."""

from __future__ import annotations

from typing import Any

import comfy.clip_vision
import comfy.model_management as manager
import comfy.model_patcher
import torch
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

from ....core.families.open_clip_image import squashed_pixels

SIZES = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act",
    "image_size", "patch_size", "projection_dim", "num_channels", "layer_norm_eps",
)  # fmt: skip
"""The configuration that ComfyUI's class reads, under transformers' names."""


def build_clip_vision(
    encoder: CLIPVisionModelWithProjection, *, disable_dynamic: bool = False
) -> comfy.clip_vision.ClipVisionModel:
    """The encoder's weights in ComfyUI's own class; ValueError if that has others."""
    config = {name: getattr(encoder.config, name) for name in SIZES}
    vision = comfy.clip_vision.ClipVisionModel({**config, "model_type": "clip_vision_model"})
    if disable_dynamic:
        vision.patcher = comfy.model_patcher.ModelPatcher(
            vision.model, load_device=vision.load_device,
            offload_device=manager.text_encoder_offload_device(),
        )  # fmt: skip
    state = {name: tensor.to(vision.dtype) for name, tensor in encoder.state_dict().items()}
    missing, _ = vision.load_sd(state)
    if missing:
        raise ValueError(
            f"this ComfyUI's image encoder and the file's differ in {len(missing)} weights, the "
            f"first is {missing[0]}"
        )
    return vision


@torch.no_grad()
def embed_image(vision: Any, pixels: Tensor) -> Tensor:
    """The projected embedding [1, 1, d] of the first frame of pixels [1, t, 3, h, w]. Images are
    resized as in the original pipeline, from which ComfyUI's own resizing and rounding differ."""
    manager.load_model_gpu(vision.patcher)
    shown = squashed_pixels(pixels[:, 0], vision.image_size).to(vision.load_device)
    embedding = vision.model(pixel_values=shown.float(), intermediate_output=-2)[2]
    return embedding[None].float().to(manager.intermediate_device())
