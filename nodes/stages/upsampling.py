"""Low-resolution frames to latents of a video four times as large."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...core.upsampling import Upsampling, upsample_clips
from ..host.interface import Guidance
from .running import Meter, Settings, collect, sampling_for

if TYPE_CHECKING:
    from torch import Tensor

    from ..host.interface import Host, Wire


def upsample_video(
    host: Host, model: Wire, positive: list, negative: list, images: Tensor, settings: Settings, *,
    cfg: float, noise_level: int, chunk: int, overlap: int, tile: int, tile_overlap: int,
) -> dict[str, Any]:  # fmt: skip
    """Upsample an IMAGE; returns the LATENT of the large video. `tile` 0 takes whole frames."""
    facts = host.facts(model)
    if not facts.is_upsampler:
        raise ValueError("the model is not an upsampler; take the one of Load Upsampler")
    if noise_level > facts.max_noise_level:
        raise ValueError(
            f"noise_level {noise_level} is above the {facts.max_noise_level} that the model knows"
        )
    how = Upsampling(
        schedule=facts.low_res_schedule or facts.schedule,
        latent_channels=facts.latent_channels,
        noise_level=noise_level,
        chunk=chunk,
        overlap=overlap,
        tile=tile or None,
        tile_overlap=tile_overlap,
    )
    chunks = upsample_clips(
        host.denoiser_for(model, positive, negative, Guidance(cfg=cfg)),
        host.pixels(images),
        sampling_for(host, model, settings, positive),
        how,
        callback=Meter(host),
    )
    return host.from_core(model, collect(host, model, chunks))
