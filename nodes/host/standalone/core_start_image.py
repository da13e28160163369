"""A start image, encoded as by ComfyUI's own node."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ....core.diffusion.resizing import resize
from ....core.tasks.start_image import StartImage
from ..shared.start_image import prompts_of
from ..tensors import pixels_of

if TYPE_CHECKING:
    from ..shared.vae import VideoVAE
    from .clip_vision import ClipVision
    from .host import StandaloneHost


def start_image(
    host: StandaloneHost, clip_vision: ClipVision, vae: VideoVAE, image: Tensor,
    size: tuple[int, int], **numbers: float,
) -> tuple[list, list]:  # fmt: skip
    """The positive and the negative CONDITIONING for a video of this size (width, height)."""
    embedding = clip_vision.encode_image(image.to(host.policy.device)).image_embeds[None]
    level = numbers["augmentation_level"]
    resized = resize(image[..., :3].movedim(-1, 1), *size, "bilinear", "center").movedim(1, -1)
    if level > 0:
        resized = resized + level * torch.randn_like(resized)
    latent = host.encode(vae, pixels_of(resized).to(host.policy.device))
    start = StartImage(
        embedding=embedding,
        latents=latent["samples"],
        fps=numbers["fps"],
        motion=numbers["motion_bucket_id"],
        augmentation=level,
    )
    return prompts_of(start)
