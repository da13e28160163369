"""Lengths in frames as those in latent frames, where an autoencoder makes one of several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WHOLE = ("frames", "window")
"""Lengths of what is made, which have to fit; what videos share is rounded up to latent frames."""

SHARED = ("overlap", "context_frames")


def in_latent_frames(lengths: Mapping[str, int], factor: int) -> dict[str, int]:
    """The same lengths, by the names of their inputs, in latent frames of `factor` frames each.

    Raises ValueError, with the two nearest that do, for one that does not fit.
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
    """The two numbers nearest to one that the factor does not divide, such as "12 or 16"."""
    below = frames - frames % factor
    return f"{below} or {below + factor}" if below else str(factor)


def chosen(values: Mapping[str, Any]) -> dict[str, int]:
    """Those of the values that are lengths."""
    return {name: values[name] for name in (*WHOLE, *SHARED) if values.get(name) is not None}
