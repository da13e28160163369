"""Memory of one evaluation of a network, and the message where there is too little.

The browser shows the same estimate before a run is queued: it gets NETWORKS with the description
of the Video Sampler, and `web/estimate.js` computes what `working_memory` does; a test compares.
"""

from __future__ import annotations

from typing import Literal

NETWORKS = {
    # The pack's own, measured on a CPU beside the model, 25 kB with 16 frames and 50 kB with 48:
    # `attention` is what each frame that a position attends to adds.
    "small": {"pixels": 4, "bytes": 12000, "attention": 800, "precision": 4},
    # What ComfyUI itself sets aside: 0.02 MiB (0.01 MiB a byte, 2 bytes, factor 1).
    "large": {"pixels": 8, "bytes": 20972, "attention": 0, "precision": 2},
}
"""In bytes for each latent position of each frame, with numbers of `precision` bytes; `pixels` is
the side of a position."""
NARROW = 192
"""Channels of the first level below which a network counts as small."""
BY_FAR = 4
"""How many times the memory of a device a need must be to be refused where it is managed."""


def network_of(channels: int) -> str:
    """The entry of NETWORKS that stands for a U-Net whose first level has so many channels."""
    return "small" if channels < NARROW else "large"


def working_memory(
    network: str, *, frames: int, width: int, height: int, cfg: float,
    pixels: int | None = None, precision: int | None = None,
) -> int:  # fmt: skip
    """Bytes of one evaluation beside the models; guidance evaluates two prompts together.

    frames are those that the network sees together, width and height are in pixels of what it
    makes; pixels and precision are the network's own where they are known.
    """
    known = NETWORKS[network]
    side = pixels or known["pixels"]
    positions = frames * (width // side) * (height // side)
    each = known["bytes"] + known["attention"] * frames
    scale = (precision or known["precision"]) / known["precision"]
    return round(positions * each * (1 if cfg == 1 else 2) * scale)


def gigabytes(size: float) -> str:
    """12 MB, 3.4 GB, 1,520 GB."""
    if size < 1e9:
        return f"{max(1, round(size / 1e6))} MB"
    return f"{size / 1e9:.1f} GB" if size < 1e11 else f"{size / 1e9:,.0f} GB"


def shortage(what: str, need: float, have: float, device: str, kind: Literal["free", "in all"]
             ) -> str:  # fmt: skip
    """The sentence about something that needs more memory than a device such as "cpu" has."""
    place = "this computer" if device == "cpu" else f"the device {device}"
    return (
        f"{what} takes about {gigabytes(need)} of memory, but {place} has {gigabytes(have)} "
        f"{kind}: take fewer or smaller frames"
    )
