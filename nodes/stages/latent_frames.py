"""Lengths in latent frames, for autoencoders that encode several frames as one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WHOLE = ("frames", "window")
"""Lengths that must be whole latent frames; those of `SHARED` are rounded up."""

SHARED = ("overlap", "context_frames")


def in_latent_frames(lengths: Mapping[str, int], factor: int) -> dict[str, int]:
    """Convert lengths, by input name, to latent frames of `factor` frames each.

    Raises ValueError with the two nearest lengths for one that must be whole and is not.
    """
    found = {}
    for name, frames in lengths.items():
        below, rest = divmod(frames, factor)
        if name in SHARED:
            found[name] = below + (rest > 0)
        elif rest:
            raise ValueError(
                f"{name} {frames} does not fit a model with one latent frame for {factor} frames: "
                f"take {nearest(frames, factor)}"
            )
        else:
            found[name] = below
    return found


def nearest(frames: int, factor: int) -> str:
    """The multiples of `factor` on either side of a number of frames, such as "12 or 16"."""
    below = frames - frames % factor
    return f"{below} or {below + factor}" if below else str(factor)


def chosen(values: Mapping[str, Any]) -> dict[str, int]:
    """The lengths among the values of a strategy's settings."""
    return {name: values[name] for name in (*WHOLE, *SHARED) if values.get(name) is not None}
