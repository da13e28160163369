"""A cache of latents on the compute device between this pack's stages.

A host that keeps node outputs in main memory gives every LATENT of ours a second copy on the device
that made it, as long as there is room. The next stage uses that copy if the LATENT still holds the
very tensor it was made with; other nodes ignore it and replace nothing but `samples`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor, device

from .tensors import latent_from, latents_of, same_device

KEY = "videoldm_device_cache"
SHARE = 1 / 64
"""Share of the free memory that one LATENT's second copy may take: hundreds of frames on any
GPU."""


class CachedLatents(NamedTuple):
    """The `samples` that a LATENT was made with, and the same raw latents [b, t, c, h, w] on the
    compute device."""

    samples: Tensor
    raw: Tensor


def latent_with_cache(
    raw: Tensor, place: device, free_bytes: float, *, time_axis: bool = False
) -> dict[str, Any]:
    """A LATENT of raw latents [b, t, c, h, w] whose samples are on the device `place`, in the
    layouts of `latent_from`."""
    latent = latent_from(raw.to(place), time_axis=time_axis)
    if not same_device(raw.device, place) and raw.nbytes <= SHARE * free_bytes:
        latent[KEY] = CachedLatents(latent["samples"], raw)
    return latent


def cached_or_moved(latent: Mapping[str, Any], place: device) -> Tensor:
    """The raw latents [b, t, c, h, w] of a LATENT on the compute device; ValueError as in
    `latents_of`."""
    kept = latent.get(KEY) if isinstance(latent, Mapping) else None
    if isinstance(kept, CachedLatents) and kept.samples is latent.get("samples"):
        if same_device(kept.raw.device, place):
            return kept.raw
    return latents_of(latent).to(place)
