"""Batches drawn on the training device, without synchronisation or transfers."""

from __future__ import annotations

import torch
from torch import Tensor


def indices(below: int, count: int, generator: torch.Generator) -> Tensor:
    """Random integers [count] in 0 .. below - 1."""
    return torch.randint(below, (count,), generator=generator, device=generator.device)


def chances(share: float, count: int, generator: torch.Generator) -> Tensor:
    """Random booleans [count], true with probability `share`."""
    return torch.rand(count, generator=generator, device=generator.device) < share


def crops(
    pixels: Tensor, count: int, *, frames: int, size: int, generator: torch.Generator
) -> Tensor:
    """Random crops [count, frames, 3, size, size] in [-1, 1] of clips uint8 [n, t, 3, h, w], each
    from a random clip, time and position."""
    n, t, _, h, w = pixels.shape
    clip = indices(n, count, generator).view(-1, 1, 1, 1, 1)
    time = _stretch(t, frames, count, generator).view(count, frames, 1, 1, 1)
    y = _stretch(h, size, count, generator).view(count, 1, 1, size, 1)
    x = _stretch(w, size, count, generator).view(count, 1, 1, 1, size)
    channel = torch.arange(3, device=generator.device).view(1, 1, 3, 1, 1)
    return pixels[clip, time, channel, y, x].float() / 127.5 - 1


def _stretch(whole: int, part: int, count: int, generator: torch.Generator) -> Tensor:
    """Random runs [count, part] of consecutive indices within 0 .. whole - 1."""
    start = indices(whole - part + 1, count, generator)
    return start[:, None] + torch.arange(part, device=generator.device)
