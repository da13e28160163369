"""A start image as CONDITIONING: its embedding, its latents, frame rate and motion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from ...core.diffusion.noise import NoiseSource
from ...core.tasks.start_image import StartImage
from ..host.shared.start_image import prompts_of
from .loading import fitted

if TYPE_CHECKING:
    from ..host.interface import Conditioning, Host, Wire


@dataclass(frozen=True, kw_only=True)
class StartSettings:
    """The widgets of Start Image. width, height: in pixels. augmentation: standard deviation of the
    noise added to pixels in [-1, 1]."""

    width: int
    height: int
    fit: str
    fps: int
    motion: int
    augmentation: float
    seed: int


def encode_start_image(
    host: Host, clip_vision: Wire, vae: Wire, image: Tensor, settings: StartSettings
) -> tuple[Conditioning, Conditioning]:
    """The positive and the negative conditioning. The image encoder gets the clean image, the VAE
    the noisy one (Blattmann et al. 2023, section 4.2)."""
    factor = host.decoder(vae).factor
    width, height = settings.width, settings.height
    if width % factor or height % factor:
        raise ValueError(f"the size {width}x{height} must be divisible by {factor} on both sides")
    frames = fitted(host.pixels(image[:1])[0], (height, width), settings.fit)[None]
    embedding = host.embed_image(clip_vision, frames)
    noise = NoiseSource((settings.seed,), (0,)).like(frames, stream="augmentation")
    latent = host.encode(vae, frames + settings.augmentation * noise)
    start = StartImage(
        embedding=embedding,
        latents=latent["samples"],
        fps=settings.fps,
        motion=settings.motion,
        augmentation=settings.augmentation,
    )
    return prompts_of(start)
