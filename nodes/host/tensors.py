"""Layouts: the one place where ComfyUI's tensors meet core's `b t c h w`.

IMAGE    [T, H, W, 3] in [0, 1]           core: pixels [1, t, 3, h, w] in [-1, 1]
LATENT   [T, c, h, w], frames as batch    core: latents [b, t, c, h, w], scaled
         [B, c, T, h, w], 5-D             LATENT holds them raw, as the VAE gives them
AUDIO    waveform [1, channels, samples]  core: AudioClip, [channels, samples]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from ...core.media.info import AudioClip
from ...core.tasks.gathering import in_parts

PART = 16  # frames checked at a time


@dataclass
class RoundTrips:
    """Counts the tensors, and their bytes, that moved between devices; 0 while latents stay."""

    count: int = 0
    bytes: int = 0

    def to(self, x: Tensor, device: torch.device | str, dtype: torch.dtype | None = None) -> Tensor:
        """Move a tensor, and count it if it really moves to another device."""
        if not same_device(x.device, torch.device(device)):
            self.count += 1
            self.bytes += x.numel() * x.element_size()
        return x.to(device=device, dtype=dtype)

    def reset(self) -> None:
        self.count = self.bytes = 0


def same_device(a: torch.device, b: torch.device) -> bool:
    """Whether two devices are the same; a device without an index matches any of its type."""
    return a.type == b.type and (a.index == b.index or None in (a.index, b.index))


# --------------------------------------------------------------------------------------------------
# Sound.


def audio_of(audio: Mapping[str, Any] | None) -> AudioClip | None:
    """The sound of an AUDIO of batch size 1; ValueError for other shapes, NaN and infinity."""
    if audio is None:
        return None
    waveform = audio.get("waveform") if isinstance(audio, Mapping) else None
    if not isinstance(waveform, Tensor) or waveform.ndim != 3 or len(waveform) != 1:
        shape = list(getattr(waveform, "shape", ()))
        raise ValueError(f"an AUDIO must be one waveform [1, channels, samples], got shape {shape}")
    check_finite(waveform, "sound")
    return AudioClip(waveform[0], int(audio.get("sample_rate", 0)))


def audio_from(sound: AudioClip | None) -> dict[str, Any] | None:
    """An AUDIO: waveform [1, channels, samples] and samples per second; None for no sound."""
    if sound is None:
        return None
    return {"waveform": sound.waveform[None], "sample_rate": sound.sample_rate}


# --------------------------------------------------------------------------------------------------
# Latents.


def latents_of(latent: Mapping[str, Any]) -> Tensor:
    """The raw latents [b, t, c, h, w] of a LATENT; ValueError for other shapes, NaN and infinity.

    A 4-D batch is one video: [T, c, h, w].
    """
    samples = latent.get("samples") if isinstance(latent, Mapping) else None
    if not isinstance(samples, Tensor) or getattr(samples, "is_nested", False):
        raise ValueError(f"a LATENT must hold one tensor of samples, got {type(samples).__name__}")
    if samples.ndim not in (4, 5) or 0 in samples.shape:
        raise ValueError(
            f"latents must be [frames, c, h, w] or [videos, c, frames, h, w], "
            f"got shape {list(samples.shape)}"
        )
    check_finite(samples, "latents")
    pattern = "t c h w -> 1 t c h w" if samples.ndim == 4 else "b c t h w -> b t c h w"
    return rearrange(samples, pattern)


def latent_from(raw: Tensor, *, time_axis: bool = False) -> dict[str, Any]:
    """A LATENT from raw latents [b, t, c, h, w]: frames as batch for one video, else 5-D.

    time_axis: 5-D even for one video, as for latents whose frames are not single images.
    """
    if raw.ndim != 5:
        raise ValueError(f"expected latents [b, t, c, h, w], got shape {list(raw.shape)}")
    if raw.shape[0] == 1 and not time_axis:
        return {"samples": raw[0]}
    return {"samples": rearrange(raw, "b t c h w -> b c t h w")}


def check_finite(x: Tensor, what: str) -> None:
    """Raise ValueError for NaN or infinity, naming the first frame that has one."""
    axis = 2 if x.ndim == 5 and what == "latents" else 0
    frames: list[int] = []
    for number, part in enumerate(in_parts(x, PART, axis=axis)):
        finite = torch.isfinite(part)
        if not bool(finite.all()):
            bad = (~finite).movedim(axis, 0).flatten(1).any(1).nonzero().flatten()
            frames += (bad + number * PART).tolist()
    if frames:
        raise ValueError(
            f"the {what} hold NaN or infinite values in {len(frames)} of {x.shape[axis]} frames, "
            f"the first is frame {frames[0]}"
        )


# --------------------------------------------------------------------------------------------------
# Pixels.


def pixels_of(images: Tensor) -> Tensor:
    """Pixels [1, t, 3, h, w] in [-1, 1] of an IMAGE [T, H, W, C]; alpha is dropped."""
    if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[-1] not in (1, 3, 4):
        shape = list(getattr(images, "shape", ()))
        raise ValueError(f"an IMAGE must be [frames, height, width, 3], got shape {shape}")
    check_finite(images, "images")
    images = images.expand(-1, -1, -1, 3) if images.shape[-1] == 1 else images[..., :3]
    return rearrange(images, "t h w c -> 1 t c h w").float() * 2 - 1


def images_from(pixels: Tensor) -> Tensor:
    """An IMAGE [T, H, W, 3] in [0, 1] from pixels [b, t, 3, h, w]; videos follow one another."""
    return rearrange(pixels, "b t c h w -> (b t) h w c").float().add(1).div(2).clamp(0, 1)
