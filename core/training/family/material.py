"""The training data: clips and their latents, on the training device."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from ...families.embedded import loading as embedded
from ...networks.autoencoder import encode
from .clips import Clips, load_clips
from .drawn import crops
from .plan import Plan

ENCODED = 32
"""Frames encoded at a time on a CPU; a GPU takes 64 times as many."""


class Material:
    """The clips of a plan in a folder; each set is moved to the device on first use."""

    def __init__(self, plan: Plan, folder: Path, device: torch.device):
        self.folder, self.device = folder, device
        found = {one.name: load_clips(one, folder) for one in plan.clips}
        self._clips = {name: clips for name, clips in found.items() if clips is not None}
        self._keys = {one.name: one.key for one in plan.clips}
        self._pixels: dict[str, Tensor] = {}
        self._latents: dict[str, Tensor] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._clips

    def clips(self, name: str) -> Clips:
        return self._clips[name]

    def pixels(self, name: str) -> Tensor:
        """Pixels uint8 [n, t, 3, h, w], on a CPU still memory-mapped."""
        if name not in self._pixels:
            self._pixels[name] = self.clips(name).pixels.to(self.device)
        return self._pixels[name]

    def latents(self, name: str) -> Tensor:
        """Scaled latents float16 [n, t, c, h, w] by the family's autoencoder, cached beside the
        clips."""
        if name not in self._latents:
            autoencoder = embedded.load_autoencoder()
            path = self.folder / f"{self._keys[name]}-latents-{_fingerprint(autoencoder)}.npy"
            if not path.is_file():
                encoded = _encoded(self.pixels(name), autoencoder.to(self.device))
                np.save(path, encoded.cpu().numpy())
            kept = torch.from_numpy(np.load(path, allow_pickle=False))
            self._latents[name] = kept.to(self.device)
        return self._latents[name]

    def mixture(self, count: int, *, frames: int, size: int, generator: torch.Generator) -> Tensor:
        """Videos [count, frames, 3, size, size] in [-1, 1]: a quarter each from base frames, large
        frames, large frames at half size, and real videos; without real ones, half from base."""
        some = dict(frames=frames, generator=generator)
        quarter = count // 4
        parts = []
        if "real" in self:
            parts.append(crops(self.pixels("real"), quarter, size=size, **some))
        parts.append(crops(self.pixels("large"), quarter, size=size, **some))
        parts.append(reduced(crops(self.pixels("large"), quarter, size=2 * size, **some)))
        rest = count - quarter * len(parts)
        parts.append(crops(self.pixels("base"), rest, size=size, **some))
        return torch.cat(parts)

    def large(self, count: int, *, frames: int, size: int, generator: torch.Generator) -> Tensor:
        """Crops of large frames, a quarter of them of real videos if there are any."""
        some = dict(frames=frames, size=size, generator=generator)
        real = count // 4 if "real" in self else 0
        rendered = crops(self.pixels("large"), count - real, **some)
        return torch.cat([rendered, crops(self.pixels("real"), real, **some)]) if real else rendered


def reduced(video: Tensor) -> Tensor:
    """A video [b, t, c, h, w] at half the size, area averaged."""
    return F.avg_pool2d(video.flatten(0, 1), 2).unflatten(0, video.shape[:2])


@torch.no_grad()
def _encoded(pixels: Tensor, autoencoder: AutoencoderKL) -> Tensor:
    chunk = ENCODED if pixels.device.type == "cpu" else 64 * ENCODED
    clips = max(1, chunk // pixels.shape[1])
    found = []
    for part in pixels.split(clips):
        with torch.autocast(pixels.device.type, torch.bfloat16):
            found.append(encode(autoencoder, part.float() / 127.5 - 1, chunk=chunk).half())
    return torch.cat(found)


def _fingerprint(autoencoder: AutoencoderKL) -> str:
    """Identifies the latents of an autoencoder."""
    weight = autoencoder.encoder.conv_out.weight.detach().float().cpu()
    return hashlib.sha256(weight.numpy().tobytes()).hexdigest()[:16]
