"""An estimate of the memory of one network evaluation, and the message if there is too little.

The browser shows the same estimate before a run is queued: it gets NETWORKS with the definition of
the Video Sampler, and `web/estimate.js` repeats `working_memory`; a test compares the two.
"""

from __future__ import annotations

from typing import Literal

NETWORKS = {
    # The pack's own, measured on a CPU without the weights: 25 kB with 16 frames, 50 kB with 48.
    # `attention` is added per frame that a position attends to.
    "small": {"pixels": 4, "bytes": 12000, "attention": 800, "precision": 4},
    # What ComfyUI itself reserves: 0.02 MiB (0.01 MiB per byte of precision, 2 bytes, factor 1).
    "large": {"pixels": 8, "bytes": 20972, "attention": 0, "precision": 2},
}
"""Bytes per latent position of each frame, for numbers of `precision` bytes; `pixels` is the side
of a position."""
NARROW = 192
"""Networks with fewer channels than this at the first level count as small."""
BY_FAR = 4
"""Hosts that manage memory refuse what needs more than this many times the device's memory."""


def network_of(channels: int) -> str:
    """The entry of NETWORKS for a U-Net with this many channels at its first level."""
    return "small" if channels < NARROW else "large"


def working_memory(
    network: str, *, frames: int, width: int, height: int, cfg: float,
    pixels: int | None = None, precision: int | None = None,
) -> int:  # fmt: skip
    """Bytes of one evaluation, without the weights; guidance evaluates two prompts together.

    frames: that the network sees together. width, height: of its output in pixels. pixels,
    precision: the network's own, None for those of the entry.
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
    """The message for something that needs more memory than a device such as "cpu" has."""
    place = "this computer" if device == "cpu" else f"the device {device}"
    return (
        f"{what} takes about {gigabytes(need)} of memory, but {place} has {gigabytes(have)} "
        f"{kind}: take fewer or smaller frames"
    )
